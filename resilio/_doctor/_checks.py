"""Each protection fired once: functions that raise if it does not work, for tasks and for plain threads."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from resilio import (
    Bulkhead,
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    bulkhead,
    circuit_breaker,
    current,
    deadline,
    hedge,
    retry,
    timeout,
)

__all__ = ["WAYS", "checks_here", "problem_of"]

_BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
WAYS = (*_BACKENDS, "threads")
"""Environments of calls: three event loops and, for synchronous functions, plain threads."""

_SOON = 0.02  # seconds until a timer of the checks is due; a delay is no failure
_FOREVER = 3600.0  # seconds of a wait that the protection has to end; the watching process ends it much earlier
_MEASURED = 40  # calls after which a hedge has enough measurements of its callee


class UnprotectedError(Exception):
    """A protection did not work; the message describes what happened instead."""


def checks_here() -> list[tuple[str, str]]:
    """Return all pairs of a check and an environment that can run here, in order."""
    ways = [way for way in WAYS if way == "threads" or importlib.util.find_spec(way)]
    return [(check, way) for check in _CHECKS for way in ways if (check, way) != ("hedge", "threads")]


def problem_of(check: str, way: str) -> str:
    """Run a check and return what happened instead of the protection; empty if it protects."""
    try:
        _CHECKS[check](way)
    except Exception as error:  # noqa: BLE001 - any exception is a finding for the report
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):  # of the loops' task groups
            cause = cause.exceptions[0]
        return str(cause) if isinstance(cause, UnprotectedError) else f"it raised {type(cause).__name__}: {cause}"
    return ""


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise UnprotectedError(otherwise)


@contextmanager
def _must_raise(expected: type[BaseException], otherwise: str) -> Iterator[None]:
    """Expect an exception in the block; if it ends in another way, raise `UnprotectedError` with *otherwise*."""
    try:
        yield
    except (expected, UnprotectedError) as error:
        if isinstance(error, UnprotectedError):
            raise
        return
    except Exception as error:
        raise UnprotectedError(f"{otherwise}; it raised {error!r}") from error
    raise UnprotectedError(otherwise)


def _on_loop(way: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    backend, options = _BACKENDS[way]
    return anyio.run(function, *args, backend=backend, backend_options=options)


def _guarded(way: str, policy: Any, function: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function behind the policy, to be called in this environment: each call in a loop of its own."""

    async def call() -> Any:
        return function()

    guarded: Callable[[], Any] = policy(function if way == "threads" else call)
    return guarded if way == "threads" else partial(_on_loop, way, guarded)


async def _hang(ended: list[bool]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        ended.append(True)


def _timeout(way: str) -> None:
    otherwise = "the call ended without CallTimeoutError"
    if way == "threads":
        released = threading.Event()
        try:
            with _must_raise(CallTimeoutError, otherwise):
                timeout(_SOON, thread=True)(released.wait)()
        finally:
            released.set()
        return
    interrupted: list[bool] = []
    with _must_raise(CallTimeoutError, otherwise):
        _on_loop(way, timeout(_SOON)(_hang), interrupted)
    _require(interrupted, "the caller went on and the callee was not interrupted")


def _hedge(way: str) -> None:
    interrupted: list[bool] = []

    @hedge(idempotent=True, after=_SOON, max_extra=1.0)
    async def call(hangs: bool) -> str:
        ambient = current()
        if hangs and not (ambient is not None and ambient.hedge):
            await _hang(interrupted)
        return "answer"

    async def calls() -> None:
        for _ in range(_MEASURED):
            await call(False)
        await call(True)

    _on_loop(way, calls)
    _require(interrupted, "the copy has won and the primary was not interrupted")


def _retry(way: str) -> None:
    attempts = []

    def fail_twice() -> str:
        attempts.append(True)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    try:
        answer = _guarded(way, retry(on=ConnectionError, attempts=3, backoff=_SOON), fail_twice)()
    except Exception as error:  # noqa: BLE001 - any exception is shown
        answer = error
    _require(answer == "done", f"a call that succeeds at its third attempt ended with {answer!r}")
    _require(len(attempts) == 3, f"there were {len(attempts)} attempts and not 3")


def _breaker(way: str) -> None:
    called = []

    def fail_thrice() -> str:
        called.append(True)
        if len(called) <= 3:
            raise ConnectionError
        return "probe"

    call = _guarded(way, circuit_breaker(consecutive=3, open_for=_SOON), fail_thrice)
    for _ in range(3):
        with _must_raise(ConnectionError, "the callee's own error was swallowed"):
            call()
    with _must_raise(CircuitOpenError, "it stayed closed over three failures in a row"):
        call()
    _require(len(called) == 3, "it was open and the callee was called")
    answer = None
    while answer is None:  # a breaker that never admits a probe is detected by the parent process
        time.sleep(_SOON)
        with suppress(CircuitOpenError):
            answer = call()


def _deadline(way: str) -> None:
    if way == "threads":
        gate = bulkhead(1, max_queued=1, max_wait=_FOREVER)
        otherwise = "a wait in a queue ended without DeadlineExceededError"
        with gate, deadline(_SOON), _must_raise(DeadlineExceededError, otherwise):
            gate.call(int)
        _require(gate.snapshot().inflight == 0, "the call that gave up has kept a permit")
        return
    interrupted: list[bool] = []

    async def block() -> None:
        with _must_raise(DeadlineExceededError, "the block ended without DeadlineExceededError"):
            async with deadline(_SOON):
                await _hang(interrupted)

    _on_loop(way, block)
    _require(interrupted, "the block ended and its code was not interrupted")


def _waiter(way: str) -> None:
    if way == "threads":
        _waiting_thread()
    else:
        _on_loop(way, _waiting_task)


async def _waiting_task() -> None:
    gate = bulkhead(1, max_queued=1, max_wait=_FOREVER)
    async with gate, anyio.create_task_group() as group:
        await _queue_behind(gate, group)
        group.cancel_scope.cancel()
    _require_empty(gate, "a cancelled waiter")
    async with anyio.create_task_group() as group, gate:
        _require(not gate.try_acquire(), "it admits more calls than it has permits")
        await _queue_behind(gate, group)


async def _queue_behind(gate: Bulkhead, group: anyio.abc.TaskGroup) -> None:
    async def wait() -> None:
        async with gate:
            pass

    group.start_soon(wait)
    while gate.snapshot().queued == 0:
        await anyio.lowlevel.checkpoint()


def _waiting_thread() -> None:
    gate = bulkhead(1, max_queued=1, max_wait=_SOON)
    with gate, _must_raise(BulkheadFullError, "it admits more calls than it has permits"):
        gate.call(int)
    _require_empty(gate, "a waiter that gave up")
    patient = bulkhead(1, max_queued=1, max_wait=_FOREVER)
    waiting = threading.Thread(target=copy_context().run, args=(patient.call, int), daemon=True)
    with patient:
        waiting.start()
        while patient.snapshot().queued == 0:
            time.sleep(0.001)
    waiting.join()


def _require_empty(gate: Bulkhead, waiter: str) -> None:
    left = gate.snapshot()
    taken = left.queued + left.inflight
    _require(taken == 0, f"{waiter} left {taken} permits taken")


_CHECKS: dict[str, Callable[[str], None]] = {
    "timeout": _timeout,
    "hedge": _hedge,
    "retry": _retry,
    "circuit_breaker": _breaker,
    "deadline": _deadline,
    "cancelled waiter": _waiter,
}
