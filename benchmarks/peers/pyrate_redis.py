"""pyrate-limiter over a Redis: a log of all calls in a sorted set, and a trip for each call."""

from __future__ import annotations

from typing import Any

from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from redis import Redis

from benchmarks.micro._loops import own_code
from benchmarks.peers._redis import server

DISTRIBUTION = "pyrate-limiter, Redis"
NOTES = {"fleet_limit": "a sliding log; one trip for each call, which lets the set grow"}
CLOCK = {"fleet_limit": "time"}


def fleet_limit(f: Any) -> Any:
    bucket = RedisBucket.init([Rate(10**6, Duration.SECOND)], Redis.from_url(server()), "bench")
    limiter = Limiter(bucket)

    def limited() -> Any:
        if not limiter.try_acquire("key", blocking=False):
            raise RuntimeError("limited")
        return f()

    return own_code(limited)
