"""The comparisons of what runs attempts: retry, fallback, timeout, hedge, and the whole recommended stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio

import resilio
from benchmarks.micro import _loops, _work
from benchmarks.micro._attempt_work import (
    awaits_and_passes,
    awaits_twice,
    failing_first,
    public,
    suspending,
    telling_a_phase,
)
from benchmarks.micro._comparison import Against, Comparison, Subject
from benchmarks.micro._loops import own_code
from benchmarks.micro._subjects import async_comparison, subject
from benchmarks.micro._work import AsyncFunction, fresh_name

__all__ = ["ASYNCIO_TIMEOUT", "attempts", "fallback", "retry", "stack_of_eight", "timeout"]

ASYNCIO_TIMEOUT = "asyncio.timeout"
_LONG = 30.0
"""Seconds that no call here takes: timers are armed and never fire."""
_PLENTY = 100_000_000
_ONE_TIMER = "one timer of the event loop's own, armed at once"


def retry() -> Any:
    """Return a retry as one uses it."""
    return public("retry")(on=ConnectionError, name=fresh_name())


def _retry_at_once() -> Any:
    budget = public("RetryBudget")(ratio=1.0, cap=1000, initial=1000)
    return public("retry")(on=ConnectionError, attempts=2, backoff=0.0, budget=budget, name=fresh_name())


def fallback() -> Any:
    """Return a fallback to a default."""
    return public("fallback")(on=ConnectionError, default=0, name=fresh_name())


def timeout() -> Any:
    """Return a timeout that does not pass."""
    return public("timeout")(_LONG, name=fresh_name())


def _hedge(**options: Any) -> Any:
    return public("hedge")(idempotent=True, name=fresh_name(), **options)


def _eight(tasks: bool = True) -> Sequence[Callable[[Any], Any]]:
    """Return the recommended stack, outermost first, each policy as it is by default; *tasks* is the deadline's."""
    return [
        fallback(),
        public("deadline")(_LONG, tasks=tasks),
        retry(),
        _hedge(),
        resilio.rate_limit(f"{_PLENTY}/s", name=fresh_name()),
        resilio.circuit_breaker(fresh_name()),
        resilio.bulkhead(100, name=fresh_name()),
        timeout(),
    ]


def stack_of_eight(callee: AsyncFunction, tasks: bool = True) -> AsyncFunction:
    """Return the function guarded by eight decorators, in the recommended order."""
    guarded: Any = callee
    for policy in reversed(_eight(tasks)):
        guarded = policy(guarded)
    return guarded  # type: ignore[no-any-return]


def _pipeline_of_eight() -> Any:
    policies: Any = _eight()
    return resilio.pipeline(*policies)(_work.acallee())


def _standard() -> Any:
    rest = {"fallback": fallback(), "rates": f"{_PLENTY}/s"}
    return public("standard")(fresh_name(), on=ConnectionError, idempotent=True, **rest)(_work.acallee())


def _asyncio_timeout(callee: AsyncFunction) -> AsyncFunction:
    async def timed() -> int:
        async with asyncio.timeout(_LONG):
            return await callee()

    return own_code(timed)


def _fail_after(callee: AsyncFunction) -> AsyncFunction:
    async def timed() -> int:
        with anyio.fail_after(_LONG):
            return await callee()

    return own_code(timed)


def _timers(callee: Callable[[], AsyncFunction]) -> list[Subject]:
    """Return what is at hand without any other library, for comparison."""
    return [
        Subject(ASYNCIO_TIMEOUT, lambda: _asyncio_timeout(callee()), "loop.time", _ONE_TIMER),
        Subject("anyio.fail_after", lambda: _fail_after(callee()), "loop.time", "a cancel scope"),
    ]


def _suspending_comparison(
    key: str, title: str, about: str, own: Sequence[Subject], against: Sequence[Against]
) -> Comparison:
    return Comparison(
        key,
        title,
        f"Nanoseconds added to `await f()`, where f suspends once, with `asyncio.sleep(0)`; {about}.",
        drive=_loops.awaits,
        check=_work.check_async_answer,
        base=lambda: _loops.awaits(suspending()),
        own=own,
        against=against,
    )


def _retry() -> Comparison:
    return async_comparison(
        "retry",
        "Async retry, the first attempt succeeds",
        "Added to `await f()`.",
        [subject("resilio retry", lambda: retry()(_work.acallee()), "retry")],
    )


def _sync_retry() -> Comparison:
    return Comparison(
        "sync_retry",
        "Sync retry, the first attempt succeeds",
        "Added to `f()`.",
        drive=_loops.calls,
        check=_work.check_answer,
        base=lambda: _loops.calls(_work.callee()),
        own=[subject("resilio retry", lambda: retry()(_work.callee()))],
        wrapper=lambda: _work.sync_wrapper(_work.callee()),
    )


def _retried() -> Comparison:
    own = "resilio retry"
    return Comparison(
        "retried",
        "Async retry of two attempts, without sleep",
        "Nanoseconds added to `try: await f()`, `except ConnectionError: await f()`. Where a library sleeps for no "
        "time it suspends once, and a pass of the event loop is in its figure.",
        drive=_loops.awaits,
        check=_work.check_async_answer,
        base=lambda: awaits_twice(failing_first()),
        own=[subject(own, lambda: _retry_at_once()(failing_first()))],
        against=[Against(own, peer, f"retried_{peer}") for peer in ("tenacity", "stamina")],
    )


def _pass() -> Comparison:
    return Comparison(
        "loop_pass",
        "A pass of the event loop",
        "Nanoseconds added to `await f()` by `asyncio.sleep(0)` inside: to take off figures that have one in it.",
        drive=_loops.awaits,
        check=_work.check_async_answer,
        base=lambda: _loops.awaits(_work.acallee()),
        own=[Subject("asyncio.sleep(0)", suspending)],
    )


def _fallback() -> Comparison:
    return async_comparison(
        "fallback",
        "Async fallback, the primary succeeds",
        "Added to `await f()`.",
        [subject("resilio fallback", lambda: fallback()(_work.acallee()), "fallback")],
    )


def _timeout() -> Comparison:
    return async_comparison(
        "timeout",
        "Async timeout, the call never suspends",
        "Added to `await f()`.",
        [subject("resilio timeout", lambda: timeout()(_work.acallee()), "timeout"), *_timers(_work.acallee)],
        drive=awaits_and_passes,
    )


def _timeout_suspending() -> Comparison:
    own = "resilio timeout"
    return _suspending_comparison(
        "timeout_suspending",
        "Async timeout, the call suspends once",
        "the timer is armed and disarmed",
        [subject(own, lambda: timeout()(suspending())), *_timers(suspending)],
        [Against(own, ASYNCIO_TIMEOUT, "timeout_suspending")],
    )


def _hedge_not_fired() -> Comparison:
    quantile, fixed = "resilio hedge, after p95", "resilio hedge, after 1 s"
    return _suspending_comparison(
        "hedge",
        "Hedge that does not fire, the call suspends once",
        "nothing is slow enough for a second copy",
        [
            subject(
                quantile,
                lambda: _hedge(after="p95", min_delay=1.0, max_delay=10.0)(suspending()),
                note="no earlier than 1 s",
            ),
            subject(fixed, lambda: _hedge(after=1.0)(suspending())),
            *_timers(suspending)[:1],
        ],
        [Against(quantile, ASYNCIO_TIMEOUT, "hedge"), Against(fixed, ASYNCIO_TIMEOUT)],
    )


def _whole_stack() -> Comparison:
    return async_comparison(
        "whole_stack",
        "The whole recommended stack on success",
        "Added to `await f()` by fallback, deadline, retry, hedge, rate limit, circuit breaker, bulkhead and timeout.",
        [
            subject("resilio, eight decorators", lambda: stack_of_eight(_work.acallee()), "whole_stack"),
            subject("resilio pipeline of eight", _pipeline_of_eight, "whole_stack_pipeline", "and a door"),
            subject("resilio standard()", _standard, "whole_stack_standard", "and a door; a learned timeout"),
            subject(
                "resilio, eight decorators, deadline(tasks=False)",
                lambda: stack_of_eight(_work.acallee(), tasks=False),
                note="tasks that the call starts do not know the deadline",
            ),
            subject(
                "resilio, eight decorators, a phase told",
                lambda: stack_of_eight(telling_a_phase()),
                note="one `phase()` inside, as integrations tell them: the call's ledger is made",
            ),
        ],
        drive=awaits_and_passes,
    )


def attempts() -> tuple[Comparison, ...]:
    """Return the comparisons of what runs attempts, in the order in which a report shows them."""
    return (
        _retry(),
        _sync_retry(),
        _retried(),
        _pass(),
        _fallback(),
        _timeout(),
        _timeout_suspending(),
        _hedge_not_fired(),
        _whole_stack(),
    )
