"""How a thread waits under virtual time: it moves the clock itself when nobody else is left to do so."""

from __future__ import annotations

import threading

from resilio.testing._threads import TICK, Watch
from resilio.testing._timeline import Timeline

__all__ = ["park"]


def park(timeline: Timeline, lock: threading.Lock) -> None:
    """
    Block until `lock` is released by whoever wakes this thread, or virtual time ends.

    Args:
        timeline: The time line to move on when all others are blocked too.

        lock: Held. `_backends.threads` has listed it if it has a deadline, and releases it then.

    Raises:
        DeadlockError: Nobody is left who could release the lock, and no deadline is coming.
    """
    watch = timeline.watch()
    with timeline.parked(lock):
        seen = timeline.moves
        while timeline.open and not _turn(timeline, watch, lock, seen):
            if seen != timeline.moves:
                seen = timeline.moves
                watch.moved()


def _turn(timeline: Timeline, watch: Watch, lock: threading.Lock, seen: int) -> bool:
    """Look around once, or move the clock; True: woken."""
    if lock.acquire(blocking=False):
        return True
    driven = timeline.driver is not None and timeline.driver_thread != threading.get_ident()
    if not driven and watch.still():
        if timeline.move_to_next(seen):
            return False
        watch.starve(io=False, where=threading.current_thread().name)
    return lock.acquire(timeout=TICK)
