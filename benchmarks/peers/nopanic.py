"""nopanic: policies as decorators for sync, asyncio and trio; `compose` stacks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nopanic
from nopanic import CircuitOpen, bulkhead, circuit_breaker, compose, rate_limit

DISTRIBUTION = "nopanic"
NOTES = {
    **dict.fromkeys(("async_breaker", "sync_breaker"), "failure rate over 30 s in ten buckets"),
    "retried": "always sleeps: a pass of the event loop",
    "hedge": "a task for each call, after 1 s",
    "whole_stack": "all eight, composed; the hedge after 1 s, the deadline not enforced",
}
_CLOCKED = ("async_breaker", "async_limiter", "async_stack", "sync_breaker", "rejection", "async_rejection")
CLOCK = {
    **dict.fromkeys(_CLOCKED, "monotonic"),
    **dict.fromkeys(("timeout", "timeout_suspending", "hedge"), "loop.time"),
    "whole_stack": "monotonic, loop.time",
}
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


def rejection(f: Any) -> tuple[Any, type[Exception]]:
    return async_breaker(f), CircuitOpen


async_rejection = rejection


def retry(f: Any) -> Any:
    return nopanic.retry(attempts=3, on=ConnectionError)(f)


sync_retry = retry


def retried(f: Any) -> Any:
    return nopanic.retry(attempts=2, on=ConnectionError, backoff=0.0)(f)


def fallback(f: Any) -> Any:
    return nopanic.fallback(0, on=ConnectionError)(f)


def timeout(f: Any) -> Any:
    return nopanic.timeout(30.0)(f)


timeout_suspending = timeout


def hedge(f: Any) -> Any:
    return nopanic.hedge(delay=1.0)(f)


def whole_stack(f: Any) -> Any:
    return compose(
        nopanic.fallback(0, on=ConnectionError),
        nopanic.deadline(30.0),
        nopanic.retry(attempts=3, on=ConnectionError),
        nopanic.hedge(delay=1.0),
        rate_limit(_PLENTY),
        circuit_breaker(reset_timeout=600.0),
        bulkhead(100, max_wait=0),
        nopanic.timeout(30.0),
    )(f)


def keyed(keys: int) -> Callable[[str], Any]:
    return nopanic.keyed(lambda _key: circuit_breaker(reset_timeout=600.0), key=lambda key: key, maxsize=keys).get
