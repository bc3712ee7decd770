"""limits: strategies over a storage; the fixed window in memory is the cheapest."""

from __future__ import annotations

from functools import partial
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage as AsyncMemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindowRateLimiter
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

DISTRIBUTION = "limits"
NOTES = dict.fromkeys(("try_acquire", "async_limiter"), "a fixed window: up to twice the rate at its border")
CLOCK = {"async_limiter": "time", "try_acquire": "time"}
_PLENTY = RateLimitItemPerSecond(10**9)


def try_acquire() -> Any:
    return partial(FixedWindowRateLimiter(MemoryStorage()).hit, _PLENTY, "key")


def async_limiter(f: Any) -> Any:
    limiter = AsyncFixedWindowRateLimiter(AsyncMemoryStorage())

    async def limited() -> Any:
        if not await limiter.hit(_PLENTY, "key"):
            raise RuntimeError("limited")
        return await f()

    return limited
