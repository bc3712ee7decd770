"""How a thread waits under virtual time: it moves the clock itself when nobody else is left to do so."""

from __future__ import annotations

import threading

from resilio.testing._threads import TICK, Watch
from resilio.testing._timeline import Timeline

__all__ = ["park"]


def park(timeline: Timeline, event: threading.Event, seconds: float | None) -> None:
    """
    Block until `event` is set or virtual `seconds` have passed.

    Args:
        timeline: The time line that counts the seconds.

        event: Set by whoever wakes this thread.

        seconds: Virtual seconds, >= 0; None: without limit.

    Raises:
        DeadlockError: Nobody is left who could set the event, and no deadline is coming.
    """
    deadline = None if seconds is None else timeline.elapsed_ns + max(1, round(seconds * 1e9))
    watch = timeline.watch()
    with timeline.parked(event, deadline):
        seen = timeline.moves
        while not event.is_set() and timeline.open:
            if seen != timeline.moves:
                seen = timeline.moves
                watch.moved()
            _turn(timeline, watch, event, seen)


def _turn(timeline: Timeline, watch: Watch, event: threading.Event, seen: int) -> None:
    driven = timeline.driver is not None and timeline.driver_thread != threading.get_ident()
    if not driven and watch.still():
        if timeline.move_to_next(seen):
            return
        watch.starve(io=False, where=threading.current_thread().name)
    event.wait(TICK)
