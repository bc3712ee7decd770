"""
Waiting in a thread.

Under virtual time nothing passes by itself: a thread that waits is listed here with the time it is due, and whoever
moves the clock (`resilio.testing`) calls `wake_due` after it, and `wake_due(FOREVER_NS)` when it ends virtual time;
`next_due` tells where to move the clock next. A thread woken early asks its gate again and waits for the rest.
`virtual_wait` may be replaced by another that does more, moving the clock itself for instance.
While `resilio.testing` keeps the time, the thread blocks by its `parking`: the last one awake moves the clock itself.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from resilio._context import variables
from resilio._native import clock

if TYPE_CHECKING:
    from resilio._backends.protocols import Waits

__all__ = ["FOREVER_NS", "next_due", "park", "sleep", "virtual_wait", "wait", "wake_due"]

_NS = 1_000_000_000
FOREVER_NS = 2**63 - 1

#: The locks that threads wait for under virtual time, with the time each is due. A plain dict: its single operations
#: are atomic, and a lock of its own would deadlock against a finaliser that wakes a thread.
_due_ns: dict[threading.Lock, int] = {}


def _release(lock: threading.Lock) -> bool:
    with suppress(RuntimeError):  # Woken already.
        lock.release()
    return True


def wake_due(now_ns: int) -> int:
    """Wake every thread whose virtual time has come; returns how many were due."""
    due = [lock for lock, at_ns in _due_ns.copy().items() if at_ns <= now_ns]
    for lock in due:
        _release(lock)
    return len(due)


def next_due() -> int | None:
    """Tell the earliest virtual time, in nanoseconds, that a waiting thread is due; None: no thread waits for one."""
    return min(_due_ns.copy().values(), default=None)


def _block(lock: threading.Lock) -> None:
    parking = variables.parking
    if parking is None:
        lock.acquire()
    else:
        parking(lock)


def virtual_wait(lock: threading.Lock, seconds: float | None) -> None:
    """Block until *lock*, which is taken, has been released or *seconds* of virtual time have passed."""
    if seconds is None:
        _block(lock)
        return
    due_ns = min(clock.now_ns() + round(seconds * _NS), FOREVER_NS)
    _due_ns[lock] = due_ns
    try:
        # The clock may have passed the time between reading it and being listed: look again.
        if clock.now_ns() < due_ns:
            _block(lock)
    finally:
        del _due_ns[lock]


def wait(lock: threading.Lock, seconds: float | None) -> None:
    """
    Block until *lock*, which is taken, has been released or *seconds* have passed; it may also end early.

    Args:
        lock: Whoever waits looks afterwards at what the lock stands for, and waits for the rest.

        seconds: How long at most; None waits without limit.
    """
    if clock.source() == "virtual":
        virtual_wait(lock, seconds)
    elif seconds is None:
        lock.acquire()
    else:
        lock.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))


def park(waiter: Waits, seconds: float | None) -> None:
    """Block this thread until *waiter* is woken or *seconds* have passed."""
    lock = threading.Lock()
    lock.acquire()
    if waiter.bind(lambda: _release(lock)):
        return
    try:
        wait(lock, seconds)
    finally:
        waiter.unbind()


def sleep(seconds: float) -> None:
    """Block this thread for *seconds*."""
    lock = threading.Lock()
    lock.acquire()
    wait(lock, seconds)
