"""Protocols of waiters, wakers and cutoffs, the same for asyncio, trio and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Cutoff", "Waits", "Waker"]

Waker = Callable[[], bool]
"""Ends a wait, from any thread. Returns False if the event loop is closed, so that the wake-up cannot arrive."""


class Waits(Protocol):
    """The core's waiter, which a backend parks."""

    def bind(self, waker: Waker, /) -> bool:
        """Register *waker*, to be called once on wake-up. Return True if the waiter was woken already: do not park."""
        ...

    def unbind(self) -> None:
        """Forget the waker."""

    def lost(self) -> None:
        """Give up the wait: the event loop was closed while the wake-up was in flight."""


class Cutoff(Protocol):
    """Interrupts a block, in the task that entered it, when its time is up; reusable for one block after another."""

    def start(self, seconds: float) -> None:
        """Begin the block in the current task; it is interrupted after *seconds*, or where it next suspends."""
        ...

    def close(self, error: BaseException | None) -> bool:
        """
        End the block, which *error* leaves. Return True if only this cutoff interrupted the task.

        A cancellation from outside always propagates. A second call completes a first one that a Ctrl-C interrupted.
        """
        ...

    @property
    def fired(self) -> bool:
        """Whether the code is being interrupted because the time was up."""
        ...

    def here(self) -> bool:
        """Return True if the current task is the one that is interrupted."""
        ...
