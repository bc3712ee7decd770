"""Blocking of threads under virtual time: the one that has waited longest moves the clock if no event loop does."""

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
    """Wait a little, the longest parked after a look at the others or a move; return True if this thread was woken."""
    if lock.acquire(blocking=False):
        return True
    if timeline.leads() and watch.still():
        if timeline.move_to_next(seen):
            return False
        watch.starve(io=False, where=threading.current_thread().name)
    return lock.acquire(timeout=TICK)
