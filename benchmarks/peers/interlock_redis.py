"""interlock-cb over a Redis: the state of a breaker for all processes, which a thread reads now and then."""

from __future__ import annotations

from itertools import count
from typing import Any

from interlock import CircuitBreaker, Config
from interlock.integrations.redis import RedisStorage
from redis import Redis

from benchmarks.peers._redis import server

DISTRIBUTION = "interlock-cb, Redis"
NOTES = {"fleet_breaker": "the first process to trip opens it for all; read once a second, not for each call"}
CLOCK = {"fleet_breaker": "monotonic"}
_numbers = count()


def fleet_breaker(f: Any) -> Any:
    storage = RedisStorage(Redis.from_url(server()))
    config = Config(wait_duration_in_open=600.0)
    return CircuitBreaker(name=f"bench-{next(_numbers)}", config=config, storage=storage)(f)
