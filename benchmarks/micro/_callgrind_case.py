"""
What callgrind watches: every case, a number of calls each, without an event loop.

`os.getpgrp` is the mark: callgrind is told to write out what it counted, and to start from zero, whenever it is called.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import repeat
from typing import Any

import resilio
from benchmarks.micro import _attempts, _own, _work
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._environment import settle_clock

_SECONDS = 0.0123
_WARM = 200
"""Calls until the interpreter has specialised a loop."""


def _awaiting(make: Callable[[], Callable[[], Awaitable[Any]]]) -> Callable[[int], None]:
    function = make()

    async def loop(n: int) -> None:
        for _ in repeat(None, n):
            await function()

    return lambda n: _drive(loop(n))


def _drive(coroutine: Any) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a case suspended")


def _calling(make: Callable[[], Callable[[], Any]]) -> Callable[[int], None]:
    function = make()

    def loop(n: int) -> None:
        for _ in repeat(None, n):
            function()

    return loop


def _feeding(make: Callable[[], tuple[Callable[[Any], Any], Any]]) -> Callable[[int], None]:
    function, value = make()

    def loop(n: int) -> None:
        for _ in repeat(None, n):
            function(value)

    return loop


def _rejected(make: Callable[[], _work.Rejecting]) -> Callable[[int], None]:
    rejecting = make()
    _drive(rejecting.check())
    function, error = rejecting.function, rejecting.error

    def loop(n: int) -> None:
        for _ in repeat(None, n):
            try:  # noqa: SIM105  (suppress() would be counted as well)
                function()
            except error:
                pass

    return loop


def _idle() -> Callable[[int], None]:
    def loop(n: int) -> None:
        for _ in repeat(None, n):
            pass

    return loop


def _trying() -> tuple[Callable[[Any], Any], Any]:
    trying = _own.trying()
    _drive(trying.check())
    return trying.try_call, trying.function


def _scraped() -> Callable[[], Awaitable[Any]]:
    """Return a guarded function that was scraped, and will be again: the collector lives on in its registry."""
    try:
        from prometheus_client import REGISTRY

        from resilio.metrics.prometheus import ResilioCollector, generate_latest
    except ImportError as error:
        raise Unavailable(str(error)) from error
    ResilioCollector()
    guarded: Callable[[], Awaitable[Any]] = _own.breaker()(_work.acallee())
    generate_latest(REGISTRY)
    return guarded


CASES: dict[str, Callable[[], Callable[[int], None]]] = {
    "bare await": lambda: _awaiting(_work.acallee),
    "bare call": lambda: _calling(_work.callee),
    "bare loop": _idle,
    "async empty wrapper": lambda: _awaiting(lambda: _work.async_wrapper(_work.acallee())),
    "async breaker on success": lambda: _awaiting(lambda: _own.breaker()(_work.acallee())),
    "async breaker on success, scraped by Prometheus": lambda: _awaiting(_scraped),
    "rate_limit + bulkhead + breaker, fused": lambda: _awaiting(lambda: _own.stack(_work.acallee())),
    "retry, first attempt succeeds": lambda: _awaiting(lambda: _attempts.retry()(_work.acallee())),
    "fallback, primary succeeds": lambda: _awaiting(lambda: _attempts.fallback()(_work.acallee())),
    "timeout, call that never suspends": lambda: _awaiting(lambda: _attempts.timeout()(_work.acallee())),
    "whole stack of 8, decorators": lambda: _awaiting(lambda: _attempts.stack_of_eight(_work.acallee())),
    "sync empty wrapper": lambda: _calling(lambda: _work.sync_wrapper(_work.callee())),
    "sync breaker on success": lambda: _calling(lambda: _own.breaker()(_work.callee())),
    "rejection raised and caught": lambda: _rejected(lambda: _own.rejecting(_work.failing(), asynchronous=False)),
    "rejection through try_call": lambda: _feeding(_trying),
    "LatencyHistogram.record": lambda: _feeding(lambda: (resilio.LatencyHistogram().record, _SECONDS)),
    "TokenBucket.try_acquire": lambda: _calling(_own.try_acquire),
}


def main(calls: int) -> None:
    """Run each case between two marks, once it is warm, and print as JSON which ran and which clock they read."""
    source = settle_clock()
    errors = {name: _run(make, calls) for name, make in CASES.items()}
    print(json.dumps({"clock": source, "errors": errors}))


def _run(make: Callable[[], Callable[[int], None]], calls: int) -> str:
    try:
        loop = make()
        loop(_WARM)
    except Unavailable as reason:
        return str(reason)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
        return f"raised {type(error).__name__}: {error}"
    os.getpgrp()
    loop(calls)
    os.getpgrp()
    return ""


if __name__ == "__main__":
    main(int(sys.argv[1]))
