"""Measuring thaws the heap that the suite has frozen; these tests freeze it again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _collected_at_the_end() -> Iterator[None]:
    """Leave no garbage in the frozen heap for the tests that follow."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _frozen_again() -> Iterator[None]:
    yield
    gc.freeze()
