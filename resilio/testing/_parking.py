"""Blocking of threads under virtual time: a waiting thread moves the clock when no other thread or loop can."""

from __future__ import annotations

import threading

from resilio.testing._threads import TICK, Watch
from resilio.testing._timeline import Timeline

__all__ = ["park"]


def park(timeline: Timeline, lock: threading.Lock) -> None:
    """
    Block until another thread releases `lock` to wake this one, or virtual time ends.

    Args:
        timeline: The time line to move when all other threads are blocked too.

        lock: A held lock. If the wait has a deadline, `_backends.threads` has listed the lock, and releases it then.

    Raises:
        DeadlockError: No other thread could release the lock, and no deadline is due.
    """
    watch = timeline.watch()
    with timeline.parked(lock):
        seen = timeline.moves
        while timeline.open and not _turn(timeline, watch, lock, seen):
            if seen != timeline.moves:
                seen = timeline.moves
                watch.moved()


def _turn(timeline: Timeline, watch: Watch, lock: threading.Lock, seen: int) -> bool:
    """Check the other threads once, or move the clock; return True if this thread was woken."""
    if lock.acquire(blocking=False):
        return True
    driven = timeline.driver is not None and timeline.driver_thread != threading.get_ident()
    if not driven and watch.still():
        if timeline.move_to_next(seen):
            return False
        watch.starve(io=False, where=threading.current_thread().name)
    return lock.acquire(timeout=TICK)
