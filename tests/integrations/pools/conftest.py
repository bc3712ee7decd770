"""Two replicas of one service, running and fresh at the start of each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from integrations.pools.callers import CALLERS, Caller
from servers.replica import Replica, replicas

from resilio import Endpoint, Pool, circuit_breaker, pool

Two = tuple[Replica, Replica]


@pytest.fixture(scope="session")
def _pair() -> Iterator[Two]:
    with replicas("a", "b") as found:
        yield found  # type: ignore[misc]


@pytest.fixture
def two(_pair: Two) -> Two:
    """The replicas."""
    for one in _pair:
        one.fresh()
    return _pair


@pytest.fixture
def search(two: Two) -> Pool:
    """A pool of them, whose breakers let calls through again soon."""
    endpoints = [Endpoint(one.url, name=one.name) for one in two]
    return pool("search", *endpoints, each=lambda e: circuit_breaker(consecutive=3, open_for=0.05, max_open_for=0.2))


@pytest.fixture(params=CALLERS, ids=lambda caller: caller.__name__)
def caller(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each client: a function of a policy that returns the open client, to be closed at the end."""
    opened: list[Caller] = []

    def opening(policy: Any, **options: Any) -> Caller:
        opened.append(request.param(policy, **options))
        return opened[-1]

    opening.needs = request.param.needs  # type: ignore[attr-defined]
    yield opening
    for one in opened:
        one.__exit__()
