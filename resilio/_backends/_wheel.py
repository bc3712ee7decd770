"""
One timer of an asyncio loop for the long waits of all who are parked in it.

A loop keeps its timers in a heap and compares them in Python: with ten thousand waiters arming and cancelling one costs
more than a wake-up. Here those that end at about the same time share an entry, and come and go in O(1). It is a little
early, never late: whoever is woken asks its gate, and waits for the rest with a timer of its own.

Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987).
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import weakref
from collections.abc import Callable

__all__ = ["GRAIN", "Wheel", "wheel_of"]

GRAIN = 0.05
"""Seconds that a wait may be woken early."""

_ROUNDING = 1e-6
"""Seconds by which a loop may run a timer early: what its own clock cannot tell apart."""

_here = threading.local()


class Wheel:
    """The long waits in one loop. All but `remove` belong to the loop's thread."""

    __slots__ = ("__weakref__", "_armed", "_entries", "_handle", "_loop", "_ticks", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[asyncio.Future[None]], None]) -> None:
        """
        Begin without waits.

        Args:
            loop: The loop whose time counts.

            wake: Called with each future when its time has nearly come.
        """
        self._loop = weakref.ref(loop)
        self._wake = wake
        self._entries: dict[int, dict[asyncio.Future[None], None]] = {}
        self._ticks: list[int] = []  # a heap of the keys above
        self._armed: int | None = None
        self._handle: asyncio.TimerHandle | None = None

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether these are the waits of *loop*."""
        return self._loop() is loop

    def add(self, when: float, future: asyncio.Future[None]) -> int:
        """
        Have *future* woken at most `GRAIN` before *when*, and return what `remove` wants.

        Args:
            when: In the loop's time, at least `GRAIN` from now.

            future: To be woken.
        """
        tick = int(when / GRAIN)
        entry = self._entries.get(tick)
        if entry is not None:
            entry[future] = None
            return tick
        self._entries[tick] = {future: None}
        heapq.heappush(self._ticks, tick)
        self._arm()
        return tick

    def remove(self, tick: int, future: asyncio.Future[None]) -> None:
        """Forget *future*, woken or not."""
        entry = self._entries.get(tick)
        if entry is None:
            return
        entry.pop(future, None)
        # A coroutine may be finalised in another thread: what is empty then is dropped when its time comes.
        if not entry and asyncio._get_running_loop() is self._loop():
            self._arm()

    def _arm(self) -> None:
        """Drop what is empty at the front, and have the one timer stand at the first entry that is not."""
        ticks, entries = self._ticks, self._entries
        while ticks and not entries[ticks[0]]:
            del entries[heapq.heappop(ticks)]
        first = ticks[0] if ticks else None
        if first == self._armed:
            return
        if self._handle is not None:
            self._handle.cancel()
        loop = self._loop()
        self._armed = first
        self._handle = None if first is None or loop is None else loop.call_at(first * GRAIN, self._fire)

    def _fire(self) -> None:
        loop = self._loop()
        self._armed = self._handle = None
        while loop is not None and self._ticks and self._ticks[0] * GRAIN <= loop.time() + _ROUNDING:
            # A copy: a coroutine that another thread finalises may be taking its future out at this moment.
            for future in list(self._entries.pop(heapq.heappop(self._ticks))):
                self._wake(future)
        self._arm()


def wheel_of(loop: asyncio.AbstractEventLoop, wake: Callable[[asyncio.Future[None]], None]) -> Wheel:
    """
    Return the wheel of *loop*, which runs in this thread.

    Loops that take turns in one thread may each have several: a wheel lives as long as somebody waits in it.
    """
    # Known weakly: it must not keep the waits of a loop that was closed in their midst.
    known: weakref.ref[Wheel] | None = getattr(_here, "wheel", None)
    wheel = None if known is None else known()
    if wheel is None or not wheel.belongs_to(loop):
        wheel = Wheel(loop, wake)
        _here.wheel = weakref.ref(wheel)
    return wheel
