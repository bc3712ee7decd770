"""What a bulkhead has to do, in plain lists."""

from __future__ import annotations

import dataclasses

__all__ = ["BulkheadOracle"]


@dataclasses.dataclass
class Waiting:
    key: int
    weight: int
    since_ns: int
    deadline_ns: int


class BulkheadOracle:
    """
    The state of each call is in `fate`: "held", "queued", or why it was rejected; calls that ended are in none.

    Calls that wait are told apart by their key; time only moves by `advance`.
    """

    def __init__(self, capacity: int, max_queued: int, max_wait_ns: int, order: str) -> None:
        self.capacity = capacity
        self.max_queued = max_queued
        self.max_wait_ns = max_wait_ns
        self.order = order
        self.now_ns = 0
        self.closed = False
        self.fate: dict[int, str] = {}
        self.weight: dict[int, int] = {}
        self.queue: list[Waiting] = []
        self.chosen: Waiting | None = None

    @property
    def used(self) -> int:
        return sum(self.weight[key] for key, fate in self.fate.items() if fate == "held")

    def arrive(self, key: int, weight: int, *, waits: bool) -> None:
        self.weight[key] = weight
        self.fate[key] = self._decide(key, weight, waits)

    def _decide(self, key: int, weight: int, waits: bool) -> str:  # noqa: PLR0911 - one for each reason
        if self.closed:
            return "closed"
        if not self.queue and self.used + weight <= self.capacity:
            return "held"
        if weight > self.capacity:
            return "too_heavy"
        if not self.max_queued or not self.max_wait_ns:
            return "full"
        if len(self.queue) >= self.max_queued:
            return "queue_full"
        if not waits:
            return "full"
        self.queue.append(Waiting(key, weight, self.now_ns, self.now_ns + self.max_wait_ns))
        return "queued"

    def end(self, key: int) -> None:
        """The call ends, or gives up: held or queued, it is gone."""
        del self.fate[key]
        self._drop(key)
        self._grant()

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        for waiting in sorted(self.queue, key=lambda waiting: waiting.deadline_ns):
            if waiting.deadline_ns <= self.now_ns and self.fate[waiting.key] == "queued":
                self.fate[waiting.key] = "wait"
                self._drop(waiting.key)
                self._grant()

    def resize(self, capacity: int) -> None:
        self.capacity = capacity
        self.chosen = None
        for waiting in list(self.queue):
            if waiting.weight > capacity:
                self.fate[waiting.key] = "too_heavy"
                self._drop(waiting.key)
        self._grant()

    def close(self) -> None:
        self.closed = True
        for waiting in list(self.queue):
            self.fate[waiting.key] = "closed"
            self._drop(waiting.key)

    def _drop(self, key: int) -> None:
        self.queue = [waiting for waiting in self.queue if waiting.key != key]
        if self.chosen is not None and self.chosen.key == key:
            self.chosen = None

    def _turn(self) -> Waiting:
        oldest, newest = self.queue[0], self.queue[-1]
        late = 2 * (self.now_ns - oldest.since_ns) > self.max_wait_ns
        crowded = 2 * len(self.queue) > self.max_queued
        if self.order == "lifo" or (self.order == "adaptive" and (late or crowded)):
            return newest
        return oldest

    def _grant(self) -> None:
        while self.queue and self.used < self.capacity:
            self.chosen = self.chosen or self._turn()
            if self.used + self.chosen.weight > self.capacity:
                return
            self.fate[self.chosen.key] = "held"
            self._drop(self.chosen.key)
