"""hyx: asyncio only; decorators that are stacked."""

from __future__ import annotations

from typing import Any

from hyx.bulkhead import bulkhead
from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing
from hyx.ratelimit import tokenbucket

DISTRIBUTION = "hyx"
_TOKENS = "does not look at the clock until it is empty"
NOTES = {
    "async_breaker": "counts consecutive failures; no window",
    "async_limiter": _TOKENS,
    "async_stack": f"three decorators; the token bucket {_TOKENS}",
}
CLOCK = {"async_refusal": "datetime.utcnow"}
_ASYNC = "guards coroutine functions only"
ABSENT = {"sync_breaker": _ASYNC, "refusal": _ASYNC, "try_acquire": "can only be awaited"}
_PLENTY = 10**9


def async_breaker(f: Any) -> Any:
    return consecutive_breaker(failure_threshold=5, recovery_time_secs=600)(f)


def async_bulkhead(f: Any) -> Any:
    return bulkhead(max_concurrency=100, max_capacity=100)(f)


def async_limiter(f: Any) -> Any:
    return tokenbucket(max_executions=_PLENTY, per_time_secs=1)(f)


def async_stack(f: Any) -> Any:
    return async_limiter(async_breaker(async_bulkhead(f)))


def async_refusal(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), BreakerFailing
