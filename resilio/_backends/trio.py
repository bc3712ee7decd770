"""Waiting in a task of trio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import trio
from trio import lowlevel

if TYPE_CHECKING:
    from resilio._backends.protocols import Waits

__all__ = ["park", "sleep"]

sleep = trio.sleep


class _Parking:
    """One task parked once; woken at most once, from anywhere."""

    __slots__ = ("parked", "task", "token")

    def __init__(self) -> None:
        self.task = lowlevel.current_task()
        self.token = lowlevel.current_trio_token()
        self.parked = True

    def waker(self) -> bool:
        """Wake the task from any thread; return False if its run is over."""
        # Directly only within a step of another task of the same run. A finaliser may interrupt trio's own code while
        # it copies its run queue, and a task must not be rescheduled in its own step.
        try:
            straight = lowlevel.current_task() is not self.task and lowlevel.current_trio_token() is self.token
        except RuntimeError:
            straight = False
        if straight:
            self.wake()
            return True
        try:
            self.token.run_sync_soon(self.wake, idempotent=True)
        except (trio.RunFinishedError, OSError):  # OSError: the run has crashed, and has closed its wake-up socket
            return False
        return True

    def wake(self) -> None:
        """Reschedule the task, unless it is awake already; only in a step of its run."""
        if self.parked:
            self.parked = False
            lowlevel.reschedule(self.task)

    def abort(self, _raise_cancel: Any) -> lowlevel.Abort:
        """Let trio cancel the wait, unless the task has been woken."""
        if not self.parked:
            return lowlevel.Abort.FAILED
        self.parked = False
        return lowlevel.Abort.SUCCEEDED


async def park(waiter: Waits, seconds: float | None) -> None:
    """Suspend the current task until *waiter* is woken or *seconds* have passed."""
    parking = _Parking()
    if waiter.bind(parking.waker):
        return
    try:
        with trio.move_on_after(math.inf if seconds is None else max(seconds, 0.0)):
            await lowlevel.wait_task_rescheduled(parking.abort)
    finally:
        parking.parked = False
        waiter.unbind()
