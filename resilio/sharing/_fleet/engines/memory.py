"""A store in the memory of this process: for tests, simulations, and services of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from resilio._native import clock
from resilio._support.after_fork import free_lock
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
from resilio.sharing._fleet.rules import exchange, keeps_us
from resilio.sharing._fleet.rules.rows import State

__all__ = ["MemoryEngine"]


def _now_us() -> int:
    return clock.now_ns() // 1000


class MemoryEngine:
    """
    A store in the memory of this process.

    Args:
        now_us: Returns the store's time, in microseconds; None: resilio's own clock, which tests may move.

    Attributes:
        is_local: True: what it stores is this process's own, so virtual time and tests may use it.

        states: The rows of each key.

        exchanged: Asks so far.
    """

    is_local = True

    def __init__(self, now_us: Callable[[], int] | None = None) -> None:
        """Make an empty store."""
        self.states: dict[str, State] = {}
        self.exchanged: int = 0
        self._ends: dict[str, int] = {}
        self._now_us = _now_us if now_us is None else now_us
        self._lock = threading.Lock()
        free_lock(self, "_lock")

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:  # noqa: ARG002 - it takes none
        """Exchange all asks and return the answers; it is never away, and never slow."""
        with self._lock:
            return [self._exchange(ask, self._now_us()) for ask in asks]

    def _exchange(self, ask: Ask, now_us: int) -> Answer:
        self.exchanged += 1
        if self._ends.get(ask.key, now_us) <= now_us:
            self.states.pop(ask.key, None)
        self.states[ask.key], answer = exchange(self.states.get(ask.key), ask, now_us)
        self._ends[ask.key] = now_us + keeps_us(ask)
        return answer

    def evict(self, key: str | None = None) -> None:
        """Forget the state of a key, or of all, as a store does that has no room, or was flushed."""
        with self._lock:
            for found in [key] if key is not None else list(self.states):
                self.states.pop(found, None)
