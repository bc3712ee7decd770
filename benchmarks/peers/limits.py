"""limits: strategies over a storage; the fixed window in memory is the cheapest."""

from __future__ import annotations

from functools import partial
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage as AsyncMemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindowRateLimiter
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from benchmarks.micro._loops import own_code

DISTRIBUTION = "limits"
NOTES = dict.fromkeys(("try_acquire", "async_limiter"), "a fixed window: up to twice the rate at its border")
NOTES["host_limit"] = "in memory: each process counts for itself; a fixed window"
CLOCK = dict.fromkeys(("async_limiter", "host_limit", "try_acquire"), "time")
_PLENTY = RateLimitItemPerSecond(10**9)


def try_acquire() -> Any:
    return partial(FixedWindowRateLimiter(MemoryStorage()).hit, _PLENTY, "key")


def host_limit(f: Any) -> Any:
    hit = partial(FixedWindowRateLimiter(MemoryStorage()).hit, _PLENTY, "key")

    def limited() -> Any:
        if not hit():
            raise RuntimeError("limited")
        return f()

    return own_code(limited)


def async_limiter(f: Any) -> Any:
    limiter = AsyncFixedWindowRateLimiter(AsyncMemoryStorage())

    async def limited() -> Any:
        if not await limiter.hit(_PLENTY, "key"):
            raise RuntimeError("limited")
        return await f()

    return limited
