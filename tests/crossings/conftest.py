"""Each test of the matrix begins and ends without policies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilio import registry


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()
