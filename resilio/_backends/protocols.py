"""What is parked, what wakes it, and what interrupts a block: the same for asyncio, trio and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Cutoff", "Waits", "Waker"]

Waker = Callable[[], bool]
"""Ends a wait, from any thread. False: the event loop is closed, so the wake-up cannot arrive."""


class Waits(Protocol):
    """What is parked: the core's waiter."""

    def bind(self, waker: Waker, /) -> bool:
        """Have *waker* called once, by whoever wakes the waiter; True: it was woken already, do not park."""
        ...

    def unbind(self) -> None:
        """Forget the waker."""

    def lost(self) -> None:
        """Give up the wait: the event loop was closed with the wake-up under way to it."""


class Cutoff(Protocol):
    """What interrupts the code of one block, in the task that entered it, once its time is up; then of another."""

    def start(self, seconds: float) -> None:
        """Begin the block, in the current task; its code is interrupted in *seconds*, or where it next suspends."""
        ...

    def close(self, error: BaseException | None) -> bool:
        """
        End the block, which *error* leaves; True: it was interrupted, and nobody else cancels the task too.

        A cancellation from outside always goes on outward. Called again, it does what a Ctrl-C has kept it from.
        """
        ...

    @property
    def fired(self) -> bool:
        """Whether the code is being interrupted because the time was up."""
        ...

    def here(self) -> bool:
        """Tell whether the current task is the one that is interrupted."""
        ...
