"""
Run in a process of its own: does something again and again, while one allocation after another fails.

Arguments: the name of a case. Whatever the case does must succeed or raise a MemoryError (or what it raises anyway),
and at the end its policies hold nothing.
"""

from __future__ import annotations

import _testcapi
import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from resilio import (
    RejectedError,
    bulkhead,
    circuit_breaker,
    current,
    deadline,
    events,
    fallback,
    hedge,
    keyed,
    pipeline,
    rate_limit,
    retry,
    timeout,
)
from resilio._context import variables
from resilio._native import core
from resilio.cost import spend_limit
from resilio.testing import assert_no_leaks, no_wait

Step = Callable[[], object]
ALLOCATIONS = 120
"""More than any case makes."""
WITHOUT_ERROR = ("error return without exception set", "returned NULL without setting an exception")
"""What CPython 3.11 raises when it has no memory for a frame."""


class CalleeError(Exception):
    """What a callee raises."""


def answer(*_: object, **__: object) -> int:
    return 42


def fail(*_: object, **__: object) -> None:
    raise CalleeError


async def answer_later(*_: object, **__: object) -> int:
    return 42


async def fail_later() -> None:
    raise CalleeError


async def suspended() -> None:
    await asyncio.sleep(0)


def send(call: Any) -> None:
    """Drive a call to its next suspension or its end."""
    try:
        call.send(None)
    except StopIteration:
        return
    finally:
        call.close()


def stacked() -> Any:
    """More policies than a call has room for inside, with hooks on all."""
    return pipeline(
        rate_limit("1000000/s", burst=1000, cost=lambda *_, **__: 1),
        circuit_breaker(failure_rate=1.0, failed_if=lambda value: value == 13, on=OSError),
        bulkhead(9, weight=lambda *_, **__: 1),
        bulkhead(9),
    )


def sync_calls() -> Iterator[Step]:
    for policy in (circuit_breaker(failure_rate=1.0), stacked()):
        guarded, failing = policy(answer), policy(fail)
        yield lambda guarded=guarded: guarded(1, two=2)
        yield failing
        yield lambda guarded=guarded: guarded.try_call(1, two=2)
        yield failing.try_call
        yield lambda policy=policy: policy.call(answer, 1, 2, 3)
        yield lambda policy=policy: policy(lambda: current().gates)()  # type: ignore[union-attr]
        yield lambda policy=policy: policy(lambda *_: answer_later())().close()


def async_calls() -> Iterator[Step]:
    for policy in (circuit_breaker(failure_rate=1.0), stacked()):
        guarded, failing, long = policy(answer_later), policy(fail_later), policy(suspended)
        yield lambda guarded=guarded: send(guarded(1, 2, 3, 4, 5, 6, 7, 8, nine=9))
        yield lambda guarded=guarded: next(guarded().__await__(), None)
        yield lambda failing=failing: send(failing())
        yield lambda failing=failing: send(failing.try_acall())
        yield lambda guarded=guarded: send(guarded.try_acall())
        yield lambda long=long: send(long())
        yield lambda long=long: long.__get__(1)


def origins() -> Iterator[Step]:
    sys.set_coroutine_origin_tracking_depth(3)
    guarded = circuit_breaker()(answer_later)
    yield lambda: [guarded().close() for _ in range(100)]


def permits() -> Iterator[Step]:
    def block() -> None:
        with pool:
            pass

    async def async_block() -> None:
        async with pool:
            pass

    for pool in (bulkhead(3), stacked()):
        yield block
        yield lambda: send(async_block())
        yield lambda pool=pool: pool.acquire(1, two=2).success()
        yield lambda pool=pool: pool.acquire().raised(CalleeError())
        yield lambda pool=pool: pool.acquire().returned(1)
        yield lambda pool=pool: repr(pool.try_acquire())
        yield lambda pool=pool: send(pool.aacquire(1, two=2))


def costs() -> Iterator[Step]:
    """What a gate written in Python keeps of a call."""
    permit = spend_limit("1 USD/day", reserve=0.01).acquire()
    yield permit._gate_calls
    permit.success()


def rejections() -> Iterator[Step]:
    shut = circuit_breaker(initial="forced_open")
    limited = rate_limit("1/h", burst=1)
    limited.call(answer)
    queue = bulkhead(1, max_queued=1, max_wait=0.001)
    held = queue.acquire()
    yield held.success  # ends it at the first attempt that has the memory: from then on the queue admits
    for policy in (shut, limited, pipeline(bulkhead(1), shut)):
        yield policy(answer)
        yield policy(answer).try_call
        yield lambda policy=policy: send(policy(answer_later)())
        yield lambda policy=policy: send(policy(answer_later).try_acall())
        yield lambda policy=policy: str(policy.try_acquire().error)
        yield lambda policy=policy: repr(policy.try_acquire())
        yield lambda policy=policy: [getattr(policy.try_acquire(), name) for name in REJECTION]


REJECTION = ("policy", "name", "reason", "measured", "limit", "retry_after", "admitted")


def waits() -> Iterator[Step]:
    pool = bulkhead(1, max_queued=1, max_wait=0.001)

    def queued() -> None:
        with pool:
            pool.call(answer)

    def queued_later() -> None:
        with pool:
            send(pool.acall(answer_later))

    yield queued
    yield queued_later
    yield core.Waiter


def gates() -> Iterator[Step]:
    breaker = circuit_breaker()
    (gate,) = breaker.gates
    yield gate.counters
    yield gate.rejections
    yield lambda: (breaker.force_open(), gate.drain_changes(), breaker.reset())
    yield lambda: (gate.kind, gate.error, gate.reasons, gate.states, gate.enforce)
    yield lambda: core.Pipeline((gate,))
    yield lambda: core.Guard(breaker, answer, "sync")
    yield lambda: repr(breaker(answer))
    yield lambda: circuit_breaker(failure_rate=0.4)
    yield breaker.snapshot
    yield lambda: breaker.latency.quantile(0.5)


def listeners() -> Iterator[Step]:
    breaker = circuit_breaker(consecutive=2)
    breaker.on_event(answer, kinds=[events.StateChanged, events.Rejected, events.Settled])
    yield breaker(answer)
    yield breaker(fail)
    yield breaker.force_open
    yield breaker(answer)
    yield breaker.reset


def strategies() -> Iterator[Step]:
    again, failing = retry(on=CalleeError, attempts=2, backoff=0.5, budget=None), fallback(answer, on=CalleeError)
    handled = fallback(handler=answer, on=CalleeError)
    hosts = keyed(lambda: retry(on=CalleeError, attempts=2, backoff=0.5, budget=None), key="host")
    with no_wait():
        for policy in (again, failing, handled, pipeline(failing, again, stacked()), pipeline(again, deadline(5.0))):
            yield from (policy(fail), policy(fail).try_call, policy(answer), policy(answer).try_call)
            for guarded in (policy(answer_later), policy(fail_later), policy(suspended)):
                yield lambda guarded=guarded: send(guarded())
                yield lambda guarded=guarded: send(guarded.try_acall())
        yield lambda: hosts(by_host)("a", two=2)
        yield lambda: list(again(items)())
        yield lambda: list(failing(items)())
    yield from deadlines()


def deadlines() -> Iterator[Step]:
    """A deadline in another one, to which nothing refers afterwards that did not before."""
    ambient = core.AmbientDeadline(2**62, 1)
    token = variables.deadline.set(ambient)
    known = sys.getrefcount(ambient)
    for policy in (deadline(5.0), deadline(5.0, tasks=False)):
        yield policy(answer)
        for guarded in (policy(answer_later), policy(suspended)):
            yield lambda guarded=guarded: send(guarded())
    assert core.ambient_deadline().until_ns >= 2**62  # type: ignore[union-attr]
    variables.deadline.set(ambient)  # the last one may have had no memory to put it back
    assert sys.getrefcount(ambient) == known, f"{sys.getrefcount(ambient)} references, {known} before"
    variables.deadline.reset(token)


def by_host(host: str, two: int) -> None:
    raise CalleeError


def items() -> Iterator[int]:
    yield 1
    raise CalleeError


def timers() -> Iterator[Step]:
    """In a loop that stands still while a step runs, and turns once after it."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    logging.disable()  # a handler that has no memory is logged
    timer, out_of_time = core.Timer(answer, 1), timeout(0.0001)
    long, short = timeout(5.0)(suspended), pipeline(deadline(3.0), retry(on=CalleeError, budget=None))(fail_later)

    def turn() -> None:
        asyncio._set_running_loop(None)
        for _ in range(2):  # the first may find no memory to stop it
            loop.call_soon(loop.stop)
        loop.run_forever()

    def running(step: Step) -> Step:
        def run() -> None:
            asyncio._set_running_loop(loop)
            try:
                step()
            finally:
                asyncio._set_running_loop(None)

        return run

    yield running(lambda: timer.arm(0.0))
    yield lambda: (running(lambda: timer.arm(0.0))(), turn())
    yield running(lambda: core.Timer(answer, 1, 2).arm(30.0))
    yield running(lambda: send(long()))
    yield running(lambda: send(short()))
    yield running(lambda: send(out_of_time(suspended)()))
    yield running(lambda: send(hedge(after=0.1, idempotent=True)(suspended)()))
    turn()
    loop.close()


def settings() -> Iterator[Step]:
    """More variables than a setting has room for inside."""
    chosen = [contextvars.ContextVar[int](f"v{i}", default=0) for i in range(20)]

    def step() -> None:
        setting = core.AmbientSetting()
        try:
            for variable in chosen:
                setting.set(variable, 1)
        finally:
            setting.leave(None)

    yield step


CASES = (
    sync_calls,
    async_calls,
    costs,
    origins,
    permits,
    rejections,
    waits,
    gates,
    listeners,
    settings,
    strategies,
    timers,
)


def starve(step: Step) -> int:
    """Do it with the n-th allocation failing, for every n; return how often that was noticed."""
    noticed = 0
    for number in range(ALLOCATIONS):
        gc.disable()
        _testcapi.set_nomemory(number, number + 1)
        try:
            step()
        except MemoryError:
            noticed += 1
        except (RejectedError, CalleeError, RuntimeError):
            pass
        except SystemError as error:
            if not str(error).endswith(WITHOUT_ERROR):
                raise
        finally:
            _testcapi.remove_mem_hooks()
            gc.enable()
    return noticed


def main(name: str) -> None:
    """Run one case."""
    warnings.simplefilter("ignore")
    sys.unraisablehook = sys.excepthook = lambda *_: None  # what has no memory in a hook has nowhere to go
    case = next(case for case in CASES if case.__name__ == name)
    noticed = 0
    for step in case():
        for _ in range(2):  # once everything is imported and made that is made once
            with contextlib.suppress(RejectedError, CalleeError, RuntimeError):
                step()
        noticed += starve(step)
    gc.collect()
    assert_no_leaks()
    assert noticed > 0, "no allocation failed"
    print(f"{name}: {noticed} failures noticed")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    finally:
        sys.excepthook = sys.__excepthook__
