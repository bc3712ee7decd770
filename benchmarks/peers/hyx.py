"""hyx: asyncio only; decorators that are stacked."""

from __future__ import annotations

from typing import Any

from hyx.bulkhead import bulkhead
from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing
from hyx.fallback import fallback as hyx_fallback
from hyx.ratelimit import tokenbucket
from hyx.retry import retry as hyx_retry
from hyx.timeout import timeout as hyx_timeout

DISTRIBUTION = "hyx"
_TOKENS = "does not look at the clock until it is empty"
_TASK = "a task for each call"
NOTES = {
    "async_breaker": "counts consecutive failures; no window",
    "async_limiter": _TOKENS,
    "async_stack": f"three decorators; the token bucket {_TOKENS}",
    "retried": "always sleeps: a pass of the event loop",
    "timeout": _TASK,
    "timeout_suspending": _TASK,
    "whole_stack": "six decorators: it has no deadline and no hedge",
}
CLOCK = {
    "async_rejection": "datetime.utcnow",
    **dict.fromkeys(("timeout", "timeout_suspending", "whole_stack"), "loop.time"),
}
_ASYNC = "guards coroutine functions only"
ABSENT = {
    "sync_breaker": _ASYNC,
    "rejection": _ASYNC,
    "sync_retry": _ASYNC,
    "try_acquire": "can only be awaited",
    "hedge": "has no hedge",
}
_PLENTY = 10**9


def async_breaker(f: Any) -> Any:
    return consecutive_breaker(failure_threshold=5, recovery_time_secs=600)(f)


def async_bulkhead(f: Any) -> Any:
    return bulkhead(max_concurrency=100, max_capacity=100)(f)


def async_limiter(f: Any) -> Any:
    return tokenbucket(max_executions=_PLENTY, per_time_secs=1)(f)


def async_stack(f: Any) -> Any:
    return async_limiter(async_breaker(async_bulkhead(f)))


def async_rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), BreakerFailing


def retry(f: Any) -> Any:
    return hyx_retry(on=ConnectionError, attempts=3)(f)


def retried(f: Any) -> Any:
    return hyx_retry(on=ConnectionError, attempts=2, backoff=0.0)(f)


async def _instead(_result: Any) -> int:
    return 0


def fallback(f: Any) -> Any:
    return hyx_fallback(_instead, on=ConnectionError)(f)


def timeout(f: Any) -> Any:
    return hyx_timeout(30.0)(f)


timeout_suspending = timeout


def whole_stack(f: Any) -> Any:
    return fallback(retry(async_limiter(async_breaker(async_bulkhead(timeout(f))))))
