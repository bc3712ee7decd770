"""What wakes whom, where what is to be called raises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from resilio._native import core
from resilio._native.gates import BulkheadGate
from resilio._policies.bulkhead.policy import BulkheadConfig


def wake(waker: Callable[[], object]) -> None:
    """Have a gate wake a waiter, by ending the one call that is under way."""
    gate = BulkheadGate(BulkheadConfig(max_concurrent=1))
    permit = core.Pipeline((gate,)).acquire()
    waiter = core.Waiter()
    gate.watch(waiter)
    assert not waiter.bind(waker)
    permit.success()
    assert waiter.notified
    assert waiter.bind(waker)  # who comes late is told so
    waiter.unbind()


def test_a_waker_that_raises_is_called_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may have raised in its midst: nobody sleeps on for that, and the exception is reported."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reported.append(told.exc_value))
    errors = [OSError("once")]
    wake(lambda: _raise(errors.pop()) if errors else None)
    assert [str(error) for error in reported] == ["once"]


def test_a_waker_that_always_raises_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second time; whoever ended the call is not harmed."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reported.append(str(told.exc_value)))
    wake(lambda: _raise(OSError("always")))
    assert reported == ["always", "always"]


def test_a_ctrl_c_in_a_waker_wakes_and_is_not_lost() -> None:
    """The waiter is woken all the same, and the interrupt comes at the next safe point."""
    calls: list[int] = []

    def waker() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wake(waker)
        for _ in range(1000):
            pass
    assert len(calls) == 2


def test_a_waiter_takes_no_arguments() -> None:
    """It is bound later."""
    with pytest.raises(TypeError, match="Waiter"):
        core.Waiter(5)  # type: ignore[call-arg]


def _raise(error: BaseException) -> None:
    raise error
