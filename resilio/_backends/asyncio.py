"""Waiting in a task of asyncio, uvloop and eager tasks included."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING

from resilio._backends._wheel import GRAIN, wheel_of

if TYPE_CHECKING:
    from resilio._backends import Waits, Waker

__all__ = ["park", "sleep"]

sleep = asyncio.sleep


def _wake(future: asyncio.Future[None]) -> None:
    # done() alone does not do: a finaliser may run between it and the next line, and wake the same future.
    with suppress(asyncio.InvalidStateError):
        if not future.done():
            future.set_result(None)


def _waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Waker:
    owner = get_ident()

    def waker() -> None:
        # Straight only within a step of a task. Elsewhere in the loop's thread a finaliser may interrupt the loop just
        # after it found nothing ready and before it sleeps in its selector: it would sleep over this wake-up.
        if get_ident() == owner and asyncio.current_task(loop) is not None:
            _wake(future)
            return
        with suppress(RuntimeError):  # The loop is closed: its waiters are gone with it.
            loop.call_soon_threadsafe(_wake, future)

    return waker


async def park(waiter: Waits, seconds: float | None) -> None:
    """
    Suspend the current task until *waiter* is woken or *seconds* have passed.

    A long wait may end a little early: the gate is asked then, and says how long the rest is.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    if waiter.bind(_waker(loop, future)):
        return
    if seconds is None or seconds > 2 * GRAIN:
        await _wait_long(waiter, seconds, loop, future)
        return
    timer = loop.call_later(seconds, _wake, future)
    try:
        await future
    finally:
        waiter.unbind()
        timer.cancel()


async def _wait_long(
    waiter: Waits, seconds: float | None, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]
) -> None:
    wheel = wheel_of(loop, _wake)
    tick = None if seconds is None else wheel.add(loop.time() + seconds, future)
    try:
        await future
    finally:
        waiter.unbind()
        if tick is not None:
            wheel.remove(tick, future)
