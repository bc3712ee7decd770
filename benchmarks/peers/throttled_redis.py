"""throttled-py over a Redis: GCRA for all processes that know it, and a trip for each call."""

from __future__ import annotations

from typing import Any

from throttled import RateLimiterType, Throttled
from throttled.store import RedisStore

from benchmarks.micro._loops import own_code
from benchmarks.peers._redis import server

DISTRIBUTION = "throttled-py, Redis"
NOTES = {"fleet_limit": "GCRA in a script; one trip for each call"}
CLOCK = {"fleet_limit": "the server's"}


def fleet_limit(f: Any) -> Any:
    using = RateLimiterType.GCRA.value
    throttled = Throttled("key", using=using, quota="1000000/s burst 1000000", store=RedisStore(server=server()))

    def limited() -> Any:
        if throttled.limit().limited:
            raise RuntimeError("limited")
        return f()

    return own_code(limited)
