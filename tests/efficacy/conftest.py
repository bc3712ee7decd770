"""The simulations, where the benchmarks came along with the tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def efficacy():
    """Gives a module of `benchmarks.efficacy` by its name."""
    if not (ROOT / "benchmarks" / "efficacy").is_dir():
        pytest.skip("the benchmarks are not here")
    sys.path.append(str(ROOT))  # last: an installed resilio goes before the one of the repository
    yield lambda name: importlib.import_module(f"benchmarks.efficacy.{name}")
    sys.path.remove(str(ROOT))
