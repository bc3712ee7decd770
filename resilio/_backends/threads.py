"""
Waiting in a thread.

Virtual time does not pass by itself, so a waiting thread is listed here with its due time. `resilio.testing` moves the
clock to `next_due`, then calls `wake_due`; when it ends virtual time, it calls `wake_due(NEVER_NS)`. A thread that is
woken early checks its gate again and waits for the rest. `virtual_wait` may be replaced, for example by a function that
moves the clock itself. Under `resilio.testing`, threads block by its `parking`: the longest parked moves the clock.
"""

from __future__ import annotations

import threading
from collections.abc import Container
from contextlib import suppress
from typing import TYPE_CHECKING

from resilio._context import variables
from resilio._native import clock

if TYPE_CHECKING:
    from resilio._backends.protocols import Waits

__all__ = ["keep_due", "next_due", "park", "sleep", "virtual_wait", "wait", "wake_due"]

_NS = 1_000_000_000

#: Locks that threads wait for under virtual time, with their due times. A plain dict, whose single operations are
#: atomic: a lock around it would deadlock with a finaliser that wakes a thread.
_due_ns: dict[threading.Lock, int] = {}


def _release(lock: threading.Lock) -> bool:
    with suppress(RuntimeError):  # Woken already.
        lock.release()
    return True


def wake_due(now_ns: int) -> int:
    """Wake all threads that are due at a virtual time, in nanoseconds; return their number."""
    due = [lock for lock, at_ns in _due_ns.copy().items() if at_ns <= now_ns]
    for lock in due:
        _release(lock)
    return len(due)


def next_due() -> int | None:
    """Return the earliest virtual due time of a waiting thread, in nanoseconds; None if no thread waits for one."""
    return min(_due_ns.copy().values(), default=None)


def keep_due(locks: Container[threading.Lock]) -> None:
    """Forget all waits but those for these locks: a forked child has no other threads."""
    for lock in _due_ns.copy():
        if lock not in locks:
            del _due_ns[lock]


def _block(lock: threading.Lock) -> None:
    parking = variables.parking
    if parking is None:
        lock.acquire()
    else:
        parking(lock)


def virtual_wait(lock: threading.Lock, seconds: float | None) -> None:
    """Block until *lock*, which is held, is released or *seconds* of virtual time have passed."""
    if seconds is None:
        _block(lock)
        return
    due_ns = min(clock.now_ns() + round(seconds * _NS), clock.NEVER_NS)
    _due_ns[lock] = due_ns
    try:
        # The clock may have passed the due time before it was listed: check again.
        if clock.now_ns() < due_ns:
            _block(lock)
    finally:
        del _due_ns[lock]


def wait(lock: threading.Lock, seconds: float | None) -> None:
    """
    Block until *lock*, which is held, is released or *seconds* have passed; it may also return early.

    Args:
        lock: The held lock. After an early return, the caller checks its condition and waits for the rest.

        seconds: Upper bound; None waits without limit.
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
