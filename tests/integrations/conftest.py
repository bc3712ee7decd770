"""The servers that integrations are tested against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers.misbehaving import Misbehaving
from servers.postgres import Postgres
from servers.processes import installed


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A server that fails on request, new for each test."""
    with Misbehaving() as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A database for all tests, which start it again where they kill it, and leave no table that another wants."""
    with installed(Postgres) as server:
        yield server
