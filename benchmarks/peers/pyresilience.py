"""pyresilience: one decorator that takes a configuration for each pattern."""

from __future__ import annotations

from typing import Any

from pyresilience import (
    BulkheadConfig,
    CircuitBreakerConfig,
    CircuitOpenError,
    FallbackConfig,
    RateLimiter,
    RateLimiterConfig,
    RetryConfig,
    TimeoutConfig,
    resilient,
)

DISTRIBUTION = "pyresilience"
_WINDOW = "set to a failure rate over the last 100 calls, which it adds up at each"
NOTES = {
    **dict.fromkeys(("async_breaker", "sync_breaker", "async_stack"), _WINDOW),
    "retried": "always sleeps: a pass of the event loop",
    "whole_stack": f"six: it has no deadline and no hedge; the breaker {_WINDOW}",
}
_CLOCKED = ("async_limiter", "async_stack", "try_acquire", "rejection", "async_rejection")
CLOCK = {
    **dict.fromkeys(_CLOCKED, "monotonic"),
    **dict.fromkeys(("timeout", "timeout_suspending"), "loop.time"),
    "whole_stack": "monotonic, loop.time",
}
ABSENT = {"hedge": "has no hedge"}


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


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitOpenError


async_rejection = rejection


def try_acquire() -> Any:
    return RateLimiter(_limit()).acquire


def retry(f: Any) -> Any:
    return resilient(retry=RetryConfig(max_attempts=3, retry_on=(ConnectionError,)))(f)


sync_retry = retry


def retried(f: Any) -> Any:
    return resilient(retry=RetryConfig(max_attempts=2, delay=0.0, jitter=False, retry_on=(ConnectionError,)))(f)


def _instead() -> FallbackConfig:
    return FallbackConfig(handler=lambda _error: 0, fallback_on=(ConnectionError,))


def fallback(f: Any) -> Any:
    return resilient(fallback=_instead())(f)


def timeout(f: Any) -> Any:
    return resilient(timeout=TimeoutConfig(seconds=30.0))(f)


timeout_suspending = timeout


def whole_stack(f: Any) -> Any:
    return resilient(
        fallback=_instead(),
        retry=RetryConfig(max_attempts=3, retry_on=(ConnectionError,)),
        rate_limiter=_limit(),
        circuit_breaker=_breaker(),
        bulkhead=BulkheadConfig(max_concurrent=100),
        timeout=TimeoutConfig(seconds=30.0),
    )(f)
