"""circuitbreaker: one decorator for sync and async; counts consecutive failures."""

from __future__ import annotations

from typing import Any

from circuitbreaker import CircuitBreakerError, circuit

DISTRIBUTION = "circuitbreaker"
NOTES = dict.fromkeys(("async_breaker", "sync_breaker"), "counts consecutive failures; no window")
CLOCK = dict.fromkeys(("rejection", "async_rejection"), "monotonic")


def async_breaker(f: Any) -> Any:
    return circuit(failure_threshold=5, recovery_timeout=600)(f)


sync_breaker = async_breaker


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitBreakerError


async_rejection = rejection
