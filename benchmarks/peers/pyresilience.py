"""pyresilience: one decorator that takes a configuration for each pattern."""

from __future__ import annotations

from typing import Any

from pyresilience import (
    BulkheadConfig,
    CircuitBreakerConfig,
    CircuitOpenError,
    RateLimiter,
    RateLimiterConfig,
    resilient,
)

DISTRIBUTION = "pyresilience"
_WINDOW = "set to a failure rate over the last 100 calls, which it adds up at each"
NOTES = dict.fromkeys(("async_breaker", "sync_breaker", "async_stack"), _WINDOW)
_CLOCKED = ("async_limiter", "async_stack", "try_acquire", "refusal", "async_refusal")
CLOCK = dict.fromkeys(_CLOCKED, "monotonic")


def _breaker() -> CircuitBreakerConfig:
    return CircuitBreakerConfig(sliding_window_size=100, minimum_calls=20, recovery_timeout=600.0)


def _limit() -> RateLimiterConfig:
    return RateLimiterConfig(max_calls=10**9, period=1.0)


def async_breaker(f: Any) -> Any:
    return resilient(circuit_breaker=_breaker())(f)


sync_breaker = async_breaker


def async_bulkhead(f: Any) -> Any:
    return resilient(bulkhead=BulkheadConfig(max_concurrent=100))(f)


def async_limiter(f: Any) -> Any:
    return resilient(rate_limiter=_limit())(f)


def async_stack(f: Any) -> Any:
    config = BulkheadConfig(max_concurrent=100)
    return resilient(circuit_breaker=_breaker(), rate_limiter=_limit(), bulkhead=config)(f)


def refusal(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitOpenError


async_refusal = refusal


def try_acquire() -> Any:
    return RateLimiter(_limit()).acquire
