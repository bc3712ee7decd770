"""nopanic: policies as decorators for sync, asyncio and trio; `compose` stacks them."""

from __future__ import annotations

from typing import Any

from nopanic import CircuitOpen, bulkhead, circuit_breaker, compose, rate_limit

DISTRIBUTION = "nopanic"
NOTES = dict.fromkeys(("async_breaker", "sync_breaker"), "failure rate over 30 s in ten buckets")
_CLOCKED = ("async_breaker", "async_limiter", "async_stack", "sync_breaker", "refusal", "async_refusal")
CLOCK = dict.fromkeys(_CLOCKED, "monotonic")
ABSENT = {"try_acquire": "takes a token through a decorator or a block only"}
_PLENTY = 10**9


def async_breaker(f: Any) -> Any:
    return circuit_breaker(reset_timeout=600.0)(f)


sync_breaker = async_breaker


def async_bulkhead(f: Any) -> Any:
    return bulkhead(100, max_wait=0)(f)


def async_limiter(f: Any) -> Any:
    return rate_limit(_PLENTY)(f)


def async_stack(f: Any) -> Any:
    return compose(rate_limit(_PLENTY), circuit_breaker(reset_timeout=600.0), bulkhead(100, max_wait=0))(f)


def refusal(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitOpen


async_refusal = refusal
