"""How long the tests of every day may take: half a second each, or what they say, and a sum for each folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

BUDGETS = {"doctor": 35.0, "integrations": 110.0, "policies": 50.0, "sharing": 150.0}
"""Seconds of real time that the tests of a folder may say they need, all together; any other folder: USUAL."""
USUAL = 20.0
HERE = Path(__file__).parent


def test_no_folder_says_that_it_needs_more_than_its_budget(request: pytest.FixtureRequest) -> None:
    """
    A suite of 70,000 tests took half an hour, 4 % of them four fifths of it.

    What a test says is compared, and not what it took: a busy machine must not fail it.
    """
    needed: Counter[str] = Counter()
    for item in request.session.items:
        mark = item.get_closest_marker("real")
        if mark and not item.get_closest_marker("slow"):
            needed[item.path.relative_to(HERE).parts[0]] += mark.args[0]
    over = {folder: seconds for folder, seconds in needed.items() if seconds > BUDGETS.get(folder, USUAL)}
    assert not over, f"make these tests quicker, or mark what is not asked every day as slow: {over}"
