"""throttled-py: limiters over a store; GCRA in memory here, as resilio's."""

from __future__ import annotations

from typing import Any

from throttled import RateLimiterType, Throttled
from throttled.asyncio import Throttled as AsyncThrottled

DISTRIBUTION = "throttled-py"
NOTES = dict.fromkeys(("try_acquire", "async_limiter"), "GCRA over a store in memory")
CLOCK = {"async_limiter": "monotonic", "try_acquire": "monotonic"}
_OPTIONS: dict[str, Any] = {
    "key": "key",
    "using": RateLimiterType.GCRA.value,
    "quota": "100000000/s burst 100000000",
}


def try_acquire() -> Any:
    return Throttled(**_OPTIONS).limit


def async_limiter(f: Any) -> Any:
    return AsyncThrottled(**_OPTIONS)(f)
