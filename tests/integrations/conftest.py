"""The server that all integrations are tested against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.misbehaving import Misbehaving


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server that fails on request, new for each test."""
    with Misbehaving() as running:
        yield running
