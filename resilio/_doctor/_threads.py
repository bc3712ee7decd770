"""Checks of the protections of synchronous functions, in plain threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from resilio import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    bulkhead,
    circuit_breaker,
    deadline,
    retry,
    timeout,
)
from resilio._doctor._check import FOREVER, SOON, must_raise, require

__all__ = ["THREADS"]


def _timeout() -> None:
    released = threading.Event()

    @timeout(SOON, thread=True)
    def hang() -> None:
        released.wait()

    try:
        with must_raise(CallTimeoutError, "the call ended without CallTimeoutError"):
            hang()
    finally:
        released.set()


def _retry() -> None:
    attempts = []

    @retry(on=ConnectionError, attempts=3, backoff=SOON)
    def call() -> str:
        attempts.append(True)
        if len(attempts) < 3:
            raise ConnectionError
        return "done"

    try:
        answer: object = call()
    except Exception as error:  # noqa: BLE001 - any exception is shown
        answer = error
    require(answer == "done", f"a call that succeeds at its third attempt ended with {answer!r}")
    require(len(attempts) == 3, f"there were {len(attempts)} attempts and not 3")


def _breaker() -> None:
    called = []
    failing = True

    @circuit_breaker(consecutive=3, open_for=SOON)
    def call() -> None:
        called.append(True)
        if failing:
            raise ConnectionError

    for _ in range(3):
        with must_raise(ConnectionError, "the callee's own error was swallowed"):
            call()
    with must_raise(CircuitOpenError, "it stayed closed over three failures in a row"):
        call()
    require(len(called) == 3, "it was open and the callee was called")
    failing = False
    while True:  # a breaker that never admits a probe is detected by the parent process
        time.sleep(SOON)
        try:
            return call()
        except CircuitOpenError:
            continue


def _deadline() -> None:
    gate = bulkhead(1, max_queued=1, max_wait=FOREVER)
    with (
        gate,
        deadline(SOON),
        must_raise(DeadlineExceededError, "a wait in a queue ended without DeadlineExceededError"),
    ):
        gate.call(int)
    require(gate.snapshot().inflight == 0, "the call that gave up has kept a permit")


def _waiter() -> None:
    gate = bulkhead(1, max_queued=1, max_wait=SOON)
    with gate, must_raise(BulkheadFullError, "it admits more calls than it has permits"):
        gate.call(int)
    left = gate.snapshot()
    require(
        (left.queued, left.inflight) == (0, 0),
        f"a waiter that gave up left {left.queued + left.inflight} permits taken",
    )
    patient = bulkhead(1, max_queued=1, max_wait=FOREVER)
    waiting = threading.Thread(target=patient.call, args=(int,), daemon=True)
    with patient:
        waiting.start()
        while patient.snapshot().queued == 0:
            time.sleep(0.001)
    waiting.join()


THREADS: dict[str, Callable[[], None]] = {
    "timeout": _timeout,
    "retry": _retry,
    "circuit_breaker": _breaker,
    "deadline": _deadline,
    "cancelled waiter": _waiter,
}
