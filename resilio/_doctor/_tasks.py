"""Checks of the protections of tasks, the same on each event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from resilio import (
    Bulkhead,
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
from resilio._doctor._check import FOREVER, SOON, must_raise, require

__all__ = ["TASKS"]

_MEASURED = 40  # calls after which a hedge has enough measurements of its callee


async def _timeout() -> None:
    interrupted = []

    @timeout(SOON)
    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            interrupted.append(True)

    with must_raise(CallTimeoutError, "the call ended without CallTimeoutError"):
        await hang()
    require(interrupted, "the caller went on and the callee was not interrupted")


async def _hedge() -> None:
    interrupted = []

    @hedge(idempotent=True, after=SOON, max_extra=1.0)
    async def call(hangs: bool) -> str:
        if not hangs:
            return "quick"
        ambient = current()
        if ambient is not None and ambient.hedge:
            return "copy"
        try:
            await anyio.sleep_forever()
        finally:
            interrupted.append(True)
        return "primary"

    for _ in range(_MEASURED):
        await call(False)
    answer = await call(True)
    require(answer == "copy", f"the call returned {answer!r} and not the answer of its copy")
    require(interrupted, "the copy has won and the primary was not interrupted")


async def _retry() -> None:
    attempts = []

    @retry(on=ConnectionError, attempts=3, backoff=SOON)
    async def call() -> str:
        attempts.append(True)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    answer = await _answer(call)
    require(answer == "done", f"a call that succeeds at its third attempt ended with {answer!r}")
    require(len(attempts) == 3, f"there were {len(attempts)} attempts and not 3")


async def _breaker() -> None:
    called = []
    failing = True

    @circuit_breaker(consecutive=3, open_for=SOON)
    async def call() -> None:
        called.append(True)
        if failing:
            raise ConnectionError

    for _ in range(3):
        with must_raise(ConnectionError, "the callee's own error was swallowed"):
            await call()
    with must_raise(CircuitOpenError, "it stayed closed over three failures in a row"):
        await call()
    require(len(called) == 3, "it was open and the callee was called")
    failing = False
    while True:  # a breaker that never admits a probe is detected by the parent process
        await anyio.sleep(SOON)
        try:
            return await call()
        except CircuitOpenError:
            continue


async def _deadline() -> None:
    interrupted = []
    with must_raise(DeadlineExceededError, "the block ended without DeadlineExceededError"):
        async with deadline(SOON):
            try:
                await anyio.sleep_forever()
            finally:
                interrupted.append(True)
    require(interrupted, "the block ended and its code was not interrupted")


async def _waiter() -> None:
    gate = bulkhead(1, max_queued=1, max_wait=FOREVER)
    async with gate, anyio.create_task_group() as group:
        group.start_soon(_pass, gate)
        while gate.snapshot().queued == 0:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    left = gate.snapshot()
    require(
        (left.queued, left.inflight) == (0, 0), f"a cancelled waiter left {left.queued + left.inflight} permits taken"
    )
    async with anyio.create_task_group() as group, gate:
        require(not gate.try_acquire(), "it admits more calls than it has permits")
        group.start_soon(_pass, gate)
        while gate.snapshot().queued == 0:
            await anyio.lowlevel.checkpoint()


async def _pass(gate: Bulkhead) -> None:
    async with gate:
        pass


async def _answer(call: Callable[[], Awaitable[object]]) -> object:
    try:
        return await call()
    except Exception as error:  # noqa: BLE001 - any exception is shown
        return error


TASKS: dict[str, Callable[[], Awaitable[None]]] = {
    "timeout": _timeout,
    "hedge": _hedge,
    "retry": _retry,
    "circuit_breaker": _breaker,
    "deadline": _deadline,
    "cancelled waiter": _waiter,
}
