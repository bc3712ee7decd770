"""
An asyncio event loop that jumps to its next timer instead of sleeping.

Real I/O has priority: the selector is polled before each jump, and blocks in real time if no timer is set. Work in
threads takes no virtual time: the clock stands still until they are done or blocked.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

from resilio.testing._threads import TICK
from resilio.testing._timeline import Timeline

__all__ = ["VirtualEventLoop"]

_SelectorList = list[tuple[selectors.SelectorKey, int]]


class _JumpingSelector(selectors.BaseSelector):
    """The loop's selector, which moves the time line instead of sleeping."""

    def __init__(self, timeline: Timeline) -> None:
        self._inner = selectors.DefaultSelector()
        self._timeline = timeline
        self._watch = timeline.watch()
        self.jobs = 0
        self.moved: Callable[[], object] = bool

    def select(self, timeout: float | None = None) -> _SelectorList:
        """Return the ready files; if there are none, move the clock by up to `timeout` seconds."""
        events = self._inner.select(0)
        if events or (timeout is not None and timeout <= 0):
            self._watch.moved()
            return events
        if not self._watch.still(self.jobs):
            return self._inner.select(TICK)
        due = self._timeline.due(None if timeout is None else round(timeout * 1e9))
        if due is None:
            self._watch.starve(io=len(self.get_map()) > 1, where="the event loop")  # 1: the loop's own wake-up
            return self._inner.select(TICK * 10)
        self._watch.moved()
        self._timeline.move_to(self._timeline.elapsed_ns + due)
        self.moved()
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file."""
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Stop watching a file."""
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a file for other events."""
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the watched files."""
        return self._inner.get_map()

    def close(self) -> None:
        """Close the selector."""
        self._inner.close()


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """
    A selector event loop whose clock is the time line.

    Args:
        timeline: The time line that the loop reads and, while it runs, moves.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._due = 0.0
        self._jumping = _JumpingSelector(timeline)
        super().__init__(self._jumping)
        self._jumping.moved = self._reach

    def time(self) -> float:
        """Return virtual seconds, rounded up to the timer that is being run."""
        seconds = self._timeline.elapsed_ns / 1e9
        return self._due if seconds < self._due < seconds + 1e-9 else seconds

    def _reach(self) -> None:
        # A time line counts whole nanoseconds, but a timer may be set to a fraction of one. A timer of anyio that read
        # an earlier time would set itself again, at the same instant for ever.
        if self._scheduled:  # type: ignore[attr-defined]
            self._due = self._scheduled[0].when()  # type: ignore[attr-defined]

    def moved(self) -> None:
        """Do nothing: the loop reads the time line itself."""

    def run_forever(self) -> None:
        """Run until stopped, as the only driver of the time line."""
        if self.is_running() or asyncio._get_running_loop() is not None:
            super().run_forever()  # raises asyncio's error
        self._timeline.attach(self)
        try:
            super().run_forever()
        finally:
            self._timeline.detach()

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run a function in a thread; the clock stands still until it is done or blocked."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jumping.jobs -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        """Wait for the workers without the runner's timeout, which would expire at once in virtual time."""
        await super().shutdown_default_executor()
