"""
Virtual time on trio: its own `MockClock`, which moves the time line when it jumps.

trio notifies the clock when all tasks are blocked and no I/O is ready, but only through a hook without a public name
(`MockClock._autojump`; trio accepts no other class of clock there). The hook keeps trio's order: I/O first, then
`wait_all_tasks_blocked`, then the jump.
"""

from __future__ import annotations

import math
from typing import Any

import trio
import trio.testing

from resilio.testing._threads import TICK, DeadlockError
from resilio.testing._timeline import Timeline

__all__ = ["TrioDriver", "trio_options"]


def trio_options(timeline: Timeline) -> dict[str, Any]:
    """Return the keyword arguments that make `trio.run` run on the time line."""
    driver = TrioDriver(timeline)
    return {"clock": driver.clock, "instruments": [driver]}


class TrioDriver(trio.abc.Instrument):
    """Driver that keeps a `MockClock` and the time line in step; an instrument, for the run's start and end."""

    def __init__(self, timeline: Timeline) -> None:
        if not hasattr(trio.testing.MockClock, "_autojump"):
            raise RuntimeError(f"virtual time does not know the clock of trio {trio.__version__}")
        self._timeline = timeline
        self._watch = timeline.watch()
        self._failed = False
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self.clock.jump(timeline.now)
        self.clock._autojump = self._idle  # type: ignore[method-assign]

    def before_run(self) -> None:
        """Start driving the time line."""
        self._timeline.attach(self)

    def after_run(self) -> None:
        """Stop driving the time line."""
        self._timeline.detach()

    def moved(self) -> None:
        """Follow the time line."""
        self.clock.jump(max(0.0, self._timeline.now - self.clock.current_time()))

    def _idle(self) -> None:
        """Jump, or check again soon while other threads work; called when all tasks are blocked and no I/O is ready."""
        try:
            self.clock.autojump_threshold = 0 if self._jump() else TICK
        except DeadlockError as error:
            self._fail(error)

    def _jump(self) -> bool:
        statistics = trio.lowlevel.current_statistics()
        if not self._watch.still(trio.to_thread.current_default_thread_limiter().borrowed_tokens):
            return False
        seconds = statistics.seconds_to_next_deadline
        due = self._timeline.due(None if seconds == math.inf else round(max(0.0, seconds) * 1e9))
        if due is None:
            self._watch.starve(io=_tasks_in_io(statistics.io_statistics) > 1, where="trio")  # 1: trio's own wake-up
            return False
        self._watch.moved()
        self._jump_by(seconds if seconds * 1e9 - due < 1 else due / 1e9)
        return True

    def _jump_by(self, seconds: float) -> None:
        # Use trio's own float, so that its deadline is reached exactly, without a rounding error.
        target = self.clock.current_time() + seconds
        self.clock.jump(max(0.0, seconds))
        while self.clock.current_time() < target:
            self.clock.jump(math.ulp(target))
        self._timeline.move_to(round(self.clock.current_time() * 1e9))

    def _fail(self, error: DeadlockError) -> None:
        if self._failed:
            raise error
        self._failed = True
        self._watch.moved()
        trio.lowlevel.spawn_system_task(_raise, error)


async def _raise(error: DeadlockError) -> None:
    raise error


def _tasks_in_io(statistics: object) -> int:
    fields = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")
    return sum(getattr(statistics, field, 0) for field in fields)
