"""
Interrupting a task of asyncio when a time is up: once, by cancelling it from the loop, as `asyncio.timeout` does.

The task's own cleanup is never cancelled again, `task.cancelling()` is what it was when the block ends, and somebody
else's cancellation in the same tick wins.

A block in progress is known to a global table, so its cutoff holds the task weakly; the loop keeps it while there is
somebody to interrupt it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import Context

from resilio._native.core import Timer, begin_interruption, end_interruption

__all__ = ["AsyncioCutoff"]

AGAIN_SECONDS = 0.001
"""How long to wait for the end of an interruption that is under way."""


class AsyncioCutoff:
    """Interrupts one block of the task that starts it."""

    __slots__ = (
        "__weakref__",
        "_cancelling",
        "_closed",
        "_expired",
        "_fired",
        "_handle",
        "_others",
        "_suspended",
        "_task",
        "_timer",
    )

    def __init__(self, suspended: Callable[[], bool] | None) -> None:
        """
        Interrupt nothing yet.

        Args:
            suspended: See `resilio._backends.cutoff`.
        """
        self._suspended = suspended
        self._task: weakref.ref[asyncio.Task[object]] | None = None
        self._timer: Timer | None = None
        self._handle: asyncio.Handle | None = None  # where there is no time left to wait for
        self._cancelling = 0
        self._others: int | None = None  # requests to cancel the task beside ours, once that is taken back
        self._expired = self._fired = self._closed = False

    def start(self, seconds: float) -> None:
        """
        Begin the block, in the current task.

        Raises:
            RuntimeError: There is no current task.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("async with deadline(...) must be entered in a task, which it can interrupt")
        self._task = weakref.ref(task)
        self._cancelling = task.cancelling()
        if seconds <= 0:
            self._handle = loop.call_soon(self._expire, context=Context())
        else:
            self._arm(task, seconds)

    def _arm(self, task: asyncio.Task[object], seconds: float) -> None:
        self._timer = self._timer or Timer(self._expire)
        self._timer.arm(seconds)
        _kept_by(task.get_loop())[self] = task

    def _running(self) -> asyncio.Task[object] | None:
        """Return the task, which is there as long as it runs; the loop need not keep it for this any more."""
        task = None if self._task is None else self._task()
        if task is not None:
            _kept_by(task.get_loop()).pop(self, None)
        return task

    def close(self, error: BaseException | None) -> bool:
        """End the block; True: the deadline ended it. Whatever a Ctrl-C has left of it, it does when called again."""
        self._closed = True
        task = self._running()
        if self._timer is not None:
            self._timer.disarm()
            self._timer = None
        if self._handle is not None:
            self._handle.cancel()
        if not self._fired or task is None:
            return self._expired and error is None
        end_interruption(task)
        others = self._take_back(task)
        return isinstance(error, asyncio.CancelledError) and not others

    def _take_back(self, task: asyncio.Task[object]) -> bool:
        """Take back our request to cancel the task; tell whether there are others."""
        if self._others is None:
            self._others = task.cancelling() - 1
        if task.cancelling() > self._others:
            task.uncancel()
        return self._others > self._cancelling

    @property
    def fired(self) -> bool:
        """Whether it has had the task cancelled."""
        return self._fired

    def here(self) -> bool:
        """Tell whether the current task is the one that is interrupted."""
        try:
            return self._task is not None and asyncio.current_task() is self._task()
        except RuntimeError:  # a thread without a loop
            return False

    def _expire(self) -> None:
        if self._closed:  # a Ctrl-C came before anybody knew of the timer
            return
        self._expired = True
        self._handle = None
        task = self._running()
        if task is None or (self._suspended is not None and self._suspended()):
            return
        cancelled = task.cancelling() > self._cancelling
        if cancelled or not begin_interruption(task):  # its cleanup is left alone: look again when that is over
            self._arm(task, AGAIN_SECONDS)
            return
        self._fired = True
        task.cancel()


def _kept_by(loop: asyncio.AbstractEventLoop) -> dict[object, object]:
    """
    Return the tasks that *loop* keeps alive as long as it lives itself, by the cutoff that will interrupt them.

    Not by the timer's own `keep`: that leads from the cutoff, which a global table knows, to the task, and a task of a
    loop that is gone would stay. A loop without attributes keeps nothing.
    """
    attributes: dict[str, dict[object, object]] = getattr(loop, "__dict__", {})
    return attributes.setdefault("_resilio_keeps", {})
