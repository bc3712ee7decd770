"""pybreaker over a Redis: one state for all processes that know it, and trips for each call."""

from __future__ import annotations

from itertools import count
from typing import Any

from pybreaker import STATE_CLOSED, CircuitBreaker, CircuitRedisStorage
from redis import Redis

from benchmarks.peers._redis import server

DISTRIBUTION = "pybreaker, Redis"
NOTES = {"fleet_breaker": "the first process to trip opens it for all; trips to the server for each call"}
CLOCK = {"fleet_breaker": "none"}
_numbers = count()


def fleet_breaker(f: Any) -> Any:
    storage = CircuitRedisStorage(STATE_CLOSED, Redis.from_url(server()), namespace=f"bench-{next(_numbers)}")
    return CircuitBreaker(fail_max=5, reset_timeout=600, state_storage=storage)(f)
