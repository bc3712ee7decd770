"""Ledgers where their calls are made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from time_ledger.adding_up import Tell


@pytest.fixture
def all_told() -> Iterator[None]:
    """Have every call and stream that has run tell its ledger."""
    tell = Tell()
    yield
    tell.stop()
