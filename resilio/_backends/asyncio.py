"""Waiting in a task of asyncio, uvloop and eager tasks included."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING

from resilio._native.core import Timer

if TYPE_CHECKING:
    from resilio._backends.protocols import Waits

__all__ = ["park", "sleep"]

GRAIN = 0.002
"""Seconds that a long wait may be woken early: more than the timers of the loop's wheel may be late."""

_LONG = 0.1
"""
Seconds from which on a wait uses the wheel. Most long waits are woken long before their time, and arm and disarm there
at next to no cost; the others wait for the rest with a timer of their own, so that they end to the point.
"""

sleep = asyncio.sleep


def _wake(future: asyncio.Future[None]) -> None:
    # done() alone does not do: a finaliser may run between it and the next line, and wake the same future.
    with suppress(asyncio.InvalidStateError):
        if not future.done():
            future.set_result(None)


class _Arrival:
    """A wake-up under way to its loop. A loop that is closed before its next step drops it, and the permit goes on."""

    __slots__ = ("_future", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], waiter: Waits) -> None:
        self._loop = loop
        self._future = future
        self._waiter: Waits | None = waiter

    def arrive(self) -> None:
        """Wake the task, in a step of its loop."""
        self._waiter = None
        _wake(self._future)

    def forget(self) -> None:
        """Do nothing when it is dropped."""
        self._waiter = None

    def __del__(self) -> None:
        waiter = self._waiter
        if waiter is not None and self._loop.is_closed():
            waiter.lost()


class _Waker:
    """Wakes one future of a loop, from any thread; a small object, of which there is one for each call in a queue."""

    __slots__ = ("_future", "_loop", "_owner", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], waiter: Waits) -> None:
        self._loop = loop
        self._future = future
        self._waiter = waiter
        self._owner = get_ident()

    def wake(self) -> bool:
        """End the wait, now or in the loop's next step; False: the loop is closed."""
        # Straight only within a step of a task. Elsewhere in the loop's thread a finaliser may interrupt the loop just
        # after it found nothing ready and before it sleeps in its selector: it would sleep over this wake-up.
        if get_ident() == self._owner and asyncio.current_task(self._loop) is not None:
            _wake(self._future)
            return True
        arrival = _Arrival(self._loop, self._future, self._waiter)
        try:
            self._loop.call_soon_threadsafe(arrival.arrive)
        except RuntimeError:
            arrival.forget()
            return not self._loop.is_closed()
        return True


async def park(waiter: Waits, seconds: float | None) -> None:
    """
    Suspend the current task until *waiter* is woken or *seconds* have passed.

    A long wait may end a little early: the gate is asked then, and says how long the rest is.
    """
    # One coroutine, and few small objects: of a long queue each of them is a miss in the caches when it is woken.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    if waiter.bind(_Waker(loop, future, waiter).wake):
        return
    if seconds is not None and seconds <= _LONG:
        await _wait_briefly(waiter, seconds, loop, future)
        return
    timer = Timer(_wake, future)
    timer.keep(
        loop, future
    )  # nobody else need do so: a gate's queue and the wheel hold no tasks, and a loop knows them weakly
    if seconds is not None:
        timer.arm(seconds - GRAIN)
    try:
        await future
    finally:
        waiter.unbind()
        timer.disarm()


async def _wait_briefly(
    waiter: Waits, seconds: float, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]
) -> None:
    timer = loop.call_later(seconds, _wake, future)
    try:
        await future
    finally:
        waiter.unbind()
        timer.cancel()
