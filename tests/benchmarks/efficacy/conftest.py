"""The simulations."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture(scope="session")
def efficacy():
    """Gives a module of `benchmarks.efficacy` by its name."""
    return lambda name: importlib.import_module(f"benchmarks.efficacy.{name}")
