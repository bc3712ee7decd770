"""Couriers in the simulator: each process has one, which goes to the simulated store when its policies want to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilio._native.simulation import Timer
    from resilio.sharing._fleet.ask import Answer, StoreProblem
    from resilio.sharing._fleet.courier import Courier
    from resilio.simulation._stores import SimulatedStore

__all__ = ["SimulatedCourier"]

AGAIN_NS = 1_000_000
"""The pause after a courier that was due had nothing to ask."""


class SimulatedCourier:
    """
    The courier of one process, on the clock of a simulation, where a thread runs it in real processes.

    Args:
        courier: It.

        store: Where it goes.

        client: The index of the process.
    """

    def __init__(self, courier: Courier, store: SimulatedStore, client: int) -> None:
        self._courier = courier
        self._store = store
        self._loop = store.loop
        self._client = client
        self._timer: Timer | None = None
        self._timer_ns = 0
        self._is_away = False
        self._is_over = False
        self._began = False

    @property
    def is_rung(self) -> bool:
        """Whether a call of this process wants an answer soon, or the courier has not begun."""
        return not self._began or self._courier.rings

    def look(self) -> None:
        """Go at once if a policy wants to, or at the time when the next one does."""
        if self._is_away or self._is_over:
            return
        self._began = True
        now_ns = self._loop.now
        due_ns = self._courier.due_ns(now_ns)
        if due_ns <= now_ns:
            self._go()
        else:
            self._wait(due_ns)

    def stop(self) -> None:
        """Go nowhere any more: the process is dead, and an answer that is under way is lost."""
        self._is_over = True
        self._forget()

    def _wait(self, due_ns: int) -> None:
        if self._timer is not None and self._timer_ns == due_ns:
            return
        self._forget()
        if due_ns < _NEVER_NS:
            self._timer_ns = due_ns
            self._timer = self._loop.at(due_ns, self._due)

    def _forget(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _due(self) -> None:
        self._timer = None
        self.look()

    def _go(self) -> None:
        self._forget()
        asks = self._courier.begin(self._loop.now)
        if asks:
            self._is_away = True
            self._store.send(self._client, asks, self._back)
        else:
            self._courier.end([], self._loop.now)
            self._wait(max(self._courier.due_ns(self._loop.now), self._loop.now + AGAIN_NS))

    def _back(self, answers: Sequence[Answer | StoreProblem] | StoreProblem) -> None:
        self._is_away = False
        if not self._is_over:
            self._courier.end(answers, self._loop.now)
            self.look()


_NEVER_NS = 1 << 62
