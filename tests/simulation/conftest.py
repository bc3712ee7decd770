"""Scenarios from text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from resilio.simulation import Scenario
from resilio.simulation._files import load


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Scenario]:
    """Load a scenario from text."""

    def one(text: str) -> Scenario:
        file = tmp_path / "shop.toml"
        file.write_text(textwrap.dedent(text))
        ((_, scenario),) = load(file).scenarios
        return scenario

    return one
