"""
Where a waiting call waits: in its own task of asyncio or trio, or in its own thread.

Gates never wait. When one says so, the core comes here: `park` and `park_sync` suspend the caller until its waiter is
woken, the time is up, or the caller is cancelled; what happened is then read off the gate, not off the return.
A waiter is woken from any thread, a finaliser included; each backend carries the wake-up into the waiter's own loop.

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
    try:  # before 0.23: whoever has imported that runs asyncio, perhaps, and must not be broken by it
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _in_asyncio() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and hasattr(asyncio, "_get_running_loop") and asyncio._get_running_loop() is not None


def use_trio() -> bool:
    """Tell whether trio runs this task, and not asyncio."""
    if not _in_trio():
        return False
    if not _in_asyncio():
        return True
    # One is a guest of the other: only the library that sniffio names runs this task.
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
    Return what can interrupt a block of the current task, not begun.

    Args:
        suspended: Tells whether the block belongs to an async generator that stands at a `yield`, so that its consumer
            would be interrupted; None: it does not belong to one.
    """
    if use_trio():
        from resilio._backends.trio_cutoff import TrioCutoff

        return TrioCutoff()
    return AsyncioCutoff(suspended)


async def park(waiter: Waits, seconds: float | None) -> None:
    """
    Suspend the current task until *waiter* is woken or *seconds* have passed; a cancellation passes through.

    Args:
        waiter: What to wait for.

        seconds: How long at most, in the time of the event loop; None waits without limit.

    Raises:
        RuntimeError: Neither asyncio nor trio runs this coroutine.
    """
    await _backend().park(waiter, seconds)


def park_sync(waiter: Waits, seconds: float | None) -> None:
    """
    Block this thread until *waiter* is woken or *seconds* have passed.

    Only where `can_block()` says so: the caller has to refuse first otherwise.
    """
    threads.park(waiter, seconds)


async def asleep(seconds: float) -> None:
    """Suspend the current task for *seconds* of its event loop's time."""
    await _backend().sleep(seconds)


def sleep(seconds: float) -> None:
    """Block this thread for *seconds*, of virtual time where time is virtual."""
    threads.sleep(seconds)


def runs_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    return _in_trio() or _in_asyncio()


def can_block() -> bool:
    """Return whether this thread may block: no event loop would stop, or it is allowed to."""
    in_trio = _in_trio()
    if not in_trio and not _in_asyncio():
        return True
    from resilio._context import blocking

    return blocking.is_allowed(asyncio_alone=not in_trio)
