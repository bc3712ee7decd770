"""
Backends for waiting: a call waits in its own task of asyncio or trio, or in its own thread.

Gates never wait themselves; the core does it here. `park` and `park_sync` suspend the caller until its waiter is woken,
the time is up, or the caller is cancelled. The core then reads the result from the gate, not from the return value.
A waiter may be woken from any thread, also by a finaliser; the backend delivers the wake-up to the waiter's own loop.

No event loop library is imported before one is running.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from resilio._backends import threads
from resilio._backends.protocols import Cutoff, Waits, Waker
from resilio._native.strategies import AsyncioCutoff

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "Cutoff",
    "Waits",
    "Waker",
    "asleep",
    "can_block",
    "cutoff",
    "park",
    "park_sync",
    "runs_loop",
    "sleep",
    "use_trio",
]


def _in_trio() -> bool:
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is None:
        return False
    if hasattr(lowlevel, "in_trio_task"):
        return bool(lowlevel.in_trio_task())
    try:  # trio before 0.23, perhaps only imported by a program that runs asyncio
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _in_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and hasattr(asyncio, "_get_running_loop") and asyncio._get_running_loop() is not None


def use_trio() -> bool:
    """Return True if trio runs this task, False if asyncio does or no loop runs."""
    if not _in_trio():
        return False
    if not _in_asyncio():
        return True
    # Guest mode: both run in this thread, and only sniffio knows which one runs this task.
    import sniffio

    return sniffio.current_async_library() == "trio"


def _backend() -> ModuleType:
    if use_trio():
        from resilio._backends import trio

        return trio
    from resilio._backends import asyncio

    return asyncio


def cutoff(suspended: Callable[[], bool] | None) -> Cutoff:
    """
    Return an object that can interrupt a block of the current task, not started yet.

    Args:
        suspended: Function that returns True while the block's async generator is suspended at a `yield`, where an
            interruption would hit its consumer; None: the block is not in an async generator.
    """
    if use_trio():
        from resilio._backends.trio_cutoff import TrioCutoff

        return TrioCutoff()
    return AsyncioCutoff(suspended)


async def park(waiter: Waits, seconds: float | None) -> None:
    """
    Suspend the current task until *waiter* is woken or *seconds* have passed; a cancellation passes through.

    Args:
        waiter: The waiter.

        seconds: Upper bound, in the event loop's time; None waits without limit.

    Raises:
        RuntimeError: Neither asyncio nor trio runs this coroutine.
    """
    await _backend().park(waiter, seconds)


def park_sync(waiter: Waits, seconds: float | None) -> None:
    """
    Block this thread until *waiter* is woken or *seconds* have passed.

    Call it only if `can_block()` is True.
    """
    threads.park(waiter, seconds)


async def asleep(seconds: float) -> None:
    """Suspend the current task for *seconds* of its event loop's time."""
    await _backend().sleep(seconds)


def sleep(seconds: float) -> None:
    """Block this thread for *seconds*, in virtual time if the clock is virtual."""
    threads.sleep(seconds)


def runs_loop() -> bool:
    """Return True if an event loop runs in this thread."""
    return _in_trio() or _in_asyncio()


def can_block() -> bool:
    """Return True if this thread may block: it runs no event loop, or blocking the loop is allowed."""
    in_trio = _in_trio()
    if not in_trio and not _in_asyncio():
        return True
    from resilio._context import blocking

    return blocking.is_allowed(asyncio_alone=not in_trio)
