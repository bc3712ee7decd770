"""aiobreaker: pybreaker's design for asyncio."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiobreaker import CircuitBreaker, CircuitBreakerError

DISTRIBUTION = "aiobreaker"
NOTES = dict.fromkeys(("async_breaker", "sync_breaker"), "counts consecutive failures; no window")
CLOCK = dict.fromkeys(("rejection", "async_rejection"), "datetime.utcnow")


def async_breaker(f: Any) -> Any:
    return CircuitBreaker(fail_max=5, timeout_duration=timedelta(minutes=10))(f)


sync_breaker = async_breaker


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitBreakerError


async_rejection = rejection
