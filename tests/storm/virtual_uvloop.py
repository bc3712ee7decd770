"""
A uvloop whose timers run on virtual time, for storms.

uvloop's own timers cannot be jumped, so they are kept here. A callback of its own looks, once per turn of the loop,
whether anybody else has scheduled something since; if not, the loop is idle, and the clock moves to the next timer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

import uvloop

from resilio.testing import VirtualTime

__all__ = ["VirtualUvloop"]

QUIET_TURNS = 3


class VirtualUvloop(uvloop.Loop):
    """An uvloop on the clock of `vt`."""

    def __init__(self, vt: VirtualTime) -> None:
        super().__init__()
        self._vt = vt
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._scheduled = 0
        self._seen = 0
        self._quiet = 0
        self._error: BaseException | None = None

    def time(self) -> float:
        """Return virtual seconds."""
        return self._vt.now

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """Call at a virtual time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """Call after virtual seconds."""
        return self.call_at(self.time() + max(delay, 0), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap: it is skipped when its time comes."""

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """Call in the next turn, and know that somebody is at work."""
        self._scheduled += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """Call in the next turn, from any thread."""
        self._scheduled += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run, looking for idleness once per turn."""
        super().call_soon(self._turn)
        super().run_forever()
        if self._error is not None:
            raise self._error

    def _turn(self) -> None:
        self._quiet = self._quiet + 1 if self._scheduled == self._seen else 0
        self._seen = self._scheduled
        if self._quiet >= QUIET_TURNS:
            try:
                self._jump()
            except BaseException as error:
                self._error = error
                self.stop()
                return
        if self.is_running():
            super().call_soon(self._turn)

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            return
        when = self._timers[0][0]
        if when > self.time():
            self._vt.advance(when - self.time())
        while self._timers and self._timers[0][0] <= self.time() + 1e-9:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                self.call_soon(_run, handle)
        self._quiet = 0


def _run(handle: asyncio.TimerHandle) -> None:
    if not handle.cancelled():  # by one that came before it in the same turn
        handle._run()
