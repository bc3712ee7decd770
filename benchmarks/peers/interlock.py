"""interlock-cb: a breaker over a sliding window, and a pipeline."""

from __future__ import annotations

from itertools import count
from typing import Any

from interlock import CircuitBreaker, CircuitOpenError, Config, Pipeline

DISTRIBUTION = "interlock-cb"
NOTES = dict.fromkeys(("async_breaker", "sync_breaker"), "failure and slow-call rate over the last 100 calls")
CLOCK = dict.fromkeys(("async_breaker", "sync_breaker", "rejection", "async_rejection"), "monotonic")
ABSENT = {"async_stack": "has no rate limit", "async_limiter": "has no rate limit"}
_numbers = count()


def _breaker() -> CircuitBreaker:
    return CircuitBreaker(name=f"bench-{next(_numbers)}", config=Config(wait_duration_in_open=600.0))


def async_breaker(f: Any) -> Any:
    return _breaker()(f)


sync_breaker = async_breaker


def async_bulkhead(f: Any) -> Any:
    return Pipeline.builder().bulkhead(100).build()(f)


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitOpenError


async_rejection = rejection
