"""
Connections of a database that are lent to callers, and cut if their cleanup does not end.

A driver that is cancelled asks the database to stop, rolls back, and waits; a thread in a driver is not cancelled at
all. If the database does not answer, neither ends, unless the connection does. Statement timeouts are the database's.
TCP's time limits do not apply: the kernel of a stopped process goes on acknowledging packets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from resilio._context.deadline import remaining
from resilio._native import clock

__all__ = ["Alarm", "TaskLoan", "alarm", "cut_of", "patience", "task_loan"]

_SHORTEST = 0.01
_log = logging.getLogger("resilio")
_told: set[tuple[type, type]] = set()  # drivers that cannot be cut, and why: each is told once


def patience(cleanup: float) -> float:
    """Return the seconds for a step of a cleanup: at most half of what the deadline leaves, so the call ends before."""
    left = remaining()
    return cleanup if left is None or left <= 0.0 else min(cleanup, left / 2)


def cut_of(driver: Any) -> Callable[[], object]:
    """
    Return a function that cuts a connection of a task, so that all waits for it end.

    Args:
        driver: The connection of asyncpg or psycopg.
    """
    return getattr(driver, "terminate", None) or partial(_shut, driver)


def _shut(connected: Any) -> None:
    """Shut the socket down; a loop that waits for a descriptor which is closed would not see it."""
    with suppress(Exception), socket.socket(fileno=os.dup(connected.fileno())) as same:  # else closed meanwhile
        same.shutdown(socket.SHUT_RDWR)


class Alarm:
    """The cut of a socket at a time, from another thread, unless it ends before."""

    __slots__ = ("_lock", "_same", "_timer")

    def __init__(self, fd: int, seconds: float) -> None:
        """
        Begin. The descriptor is copied: its number may be another connection's once the driver has closed its own.

        Args:
            fd: The descriptor of a connected socket.

            seconds: Time until the cut.

        Raises:
            OSError: There is no such socket, or no further descriptor.

            RuntimeError: No thread can start.
        """
        self._lock = threading.Lock()
        self._same = socket.socket(fileno=os.dup(fd))
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:
            self._same.close()
            raise

    def end(self) -> None:
        """Call the cut off."""
        self._timer.cancel()
        with self._lock:  # a descriptor that is closed within shutdown() may be another connection's
            self._same.close()

    def _cut(self) -> None:
        with self._lock, suppress(OSError), self._same:  # an error: it has ended
            self._same.shutdown(socket.SHUT_RDWR)


def alarm(driver: Any, cleanup: float) -> Alarm | None:
    """
    Return an alarm for the connection of a thread; None: no deadline, or no way, which is logged once a driver.

    Args:
        driver: The driver's connection.

        cleanup: Seconds from the deadline to the cut.
    """
    left = remaining()
    if left is not None and clock.source() != "virtual":
        try:
            return Alarm(driver.fileno(), left + cleanup)
        except (AttributeError, OSError, RuntimeError) as error:
            _tell_uncut(type(driver), error)
    return None


def _tell_uncut(driver: type, error: Exception) -> None:
    if (driver, type(error)) not in _told:
        _told.add((driver, type(error)))
        name = f"{driver.__module__}.{driver.__qualname__}"
        _log.warning("a thread's connection (%s) is not cut after its deadline if the database hangs: %r", name, error)


class TaskLoan:
    """
    A connection that is lent to a task, and cut once the task has been cancelled for a while.

    The loop looks at the task now and then: asyncio has no callback for a cancellation, and the waits of the cleanup,
    in which it could be caught, are the driver's.
    """

    __slots__ = ("_cancels", "_cleanup", "_cut", "_is_back", "_task", "_timer", "_until")

    def __init__(
        self, task: asyncio.Task[Any], cut: Callable[[], object], cleanup: float, is_back: Callable[[], bool]
    ) -> None:
        """
        Begin with the ambient deadline.

        Args:
            task: The task that borrows.

            cut: Cuts the connection.

            cleanup: Most seconds, > 0, from a cancellation to the cut, and less before a deadline, so that the call
                ends before it.

            is_back: Returns True if the connection is back, though `end` has not been called.
        """
        left = remaining()
        self._task = task
        self._cancels = task.cancelling()
        self._cut = cut
        self._cleanup = cleanup
        self._is_back = is_back
        self._until = None if left is None else task.get_loop().time() + left
        self._wait(self._look)

    def end(self) -> None:
        """End the loan."""
        self._timer.cancel()

    def _wait(self, then: Callable[[], None], share: float = 0.25) -> None:
        """Call a method within half the cleanup, and within a share of what the deadline leaves."""
        loop, seconds = self._task.get_loop(), self._cleanup / 2
        left = 0.0 if self._until is None else self._until - loop.time()
        if left > 0.0:
            seconds = min(seconds, max(left * share, _SHORTEST))
        self._timer = loop.call_later(seconds, then)

    def _look(self) -> None:
        if self._task.done() or self._is_back():
            return
        if self._is_cancelled():
            self._wait(self._give_up, 0.5)
        else:
            self._wait(self._look)

    def _give_up(self) -> None:
        if not self._is_cancelled():  # the cancellation was caught, and the connection is in use
            self._look()
        elif not self._task.done() and not self._is_back():
            self._cut()

    def _is_cancelled(self) -> bool:
        """Return True after a cancellation since the checkout; one from before is no reason to hurry."""
        cancels = self._task.cancelling()
        self._cancels = min(self._cancels, cancels)
        return cancels > self._cancels


def task_loan(cut: Callable[[], object], cleanup: float, is_back: Callable[[], bool] = bool) -> TaskLoan | None:
    """
    Return a loan to the current task; None: there is no task, or time is virtual.

    Args:
        cut: Cuts the connection.

        cleanup: Most seconds, > 0, from a cancellation to the cut.

        is_back: Returns True if the connection is back, though `end` has not been called.
    """
    if clock.source() == "virtual":
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None
    return None if task is None else TaskLoan(task, cut, cleanup, is_back)
