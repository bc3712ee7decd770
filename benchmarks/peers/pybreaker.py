"""pybreaker: sync; its coroutines are Tornado's."""

from __future__ import annotations

from typing import Any

from pybreaker import CircuitBreaker, CircuitBreakerError

DISTRIBUTION = "pybreaker"
NOTES = {"sync_breaker": "counts consecutive failures; no window; one call at a time, under a lock"}
CLOCK = {"rejection": "datetime.now"}
_TORNADO = "guards coroutines of Tornado only"
ABSENT = {"async_breaker": _TORNADO, "async_rejection": _TORNADO}


def sync_breaker(f: Any) -> Any:
    return CircuitBreaker(fail_max=5, reset_timeout=600)(f)


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return sync_breaker(f), CircuitBreakerError
