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
"""Seconds by which a long wait is woken early; exceeds the lateness of the timers of the loop's wheel."""

_LONG = 0.1
"""
Shortest wait, in seconds, that uses the wheel, where arming and disarming is cheap. Most long waits are woken long
before their time. The others wait for the rest with a timer of their own, so that they end on time.
"""

sleep = asyncio.sleep


def _wake(future: asyncio.Future[None]) -> None:
    # done() alone is not enough: a finaliser may run after it and wake the same future.
    with suppress(asyncio.InvalidStateError):
        if not future.done():
            future.set_result(None)


class _Arrival:
    """A wake-up in flight to its loop. If the loop is closed first, it is dropped, and the permit passes on."""

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
        """Do nothing when this is dropped."""
        self._waiter = None

    def __del__(self) -> None:
        waiter = self._waiter
        if waiter is not None and self._loop.is_closed():
            waiter.lost()


class _Waker:
    """Wakes one future of a loop, from any thread. Kept small: each queued call has one."""

    __slots__ = ("_future", "_loop", "_owner", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], waiter: Waits) -> None:
        self._loop = loop
        self._future = future
        self._waiter = waiter
        self._owner = get_ident()

    def wake(self) -> bool:
        """End the wait, now or in the loop's next step; False: the loop is closed."""
        # Directly only within a step of a task. Elsewhere in the loop's thread this may be a finaliser that interrupts
        # the loop between finding nothing ready and sleeping in its selector: it would oversleep the wake-up.
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

    A long wait may end a little early; the gate then returns the time that is left.
    """
    # One coroutine and few small objects: in a long queue, each of them is a cache miss when it is woken.
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
    )  # the only strong reference: a gate's queue and the wheel hold no tasks, and a loop holds them weakly
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
