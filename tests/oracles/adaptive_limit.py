"""What the gate of an adaptive limit has to do, in plain lists; its law is AIMD, which can be followed by hand."""

from __future__ import annotations

import dataclasses

from oracles.laws import Aimd

__all__ = ["AdaptiveOracle"]


@dataclasses.dataclass
class Waiting:
    key: int
    deadline_ns: int


class AdaptiveOracle:
    """
    The state of each call is in `fate`: "held", "queued", or why it was rejected; calls that ended are in none.

    Calls that wait are told apart by their key; time only moves by `advance`.
    """

    def __init__(self, law: Aimd, max_queued: int, max_wait_ns: int) -> None:
        self.law = law
        self.max_queued = max_queued
        self.max_wait_ns = max_wait_ns
        self.now_ns = 0
        self.fate: dict[int, str] = {}
        self.found: dict[int, int] = {}
        self.stale: set[int] = set()
        self.queue: list[Waiting] = []

    @property
    def used(self) -> int:
        return list(self.fate.values()).count("held")

    def arrive(self, key: int, *, waits: bool) -> None:
        self.fate[key] = self._decide(key, waits)

    def _decide(self, key: int, waits: bool) -> str:
        if not self.queue and self.used < int(self.law.limit):
            self.found[key] = self.used + 1
            return "held"
        if not self.max_queued:
            return "limit"
        if len(self.queue) >= self.max_queued:
            return "queue_full"
        if not waits:
            return "limit"
        self.queue.append(Waiting(key, self.now_ns + self.max_wait_ns))
        return "queued"

    def end(self, key: int, how: str) -> None:
        """The call ends: "success", "drop", or in a way that teaches nothing."""
        held = self.fate.pop(key) == "held"
        self.queue = [waiting for waiting in self.queue if waiting.key != key]
        if held and key not in self.stale and how != "nothing":
            self.law.learn(1.0, self.found[key], how == "drop")
        self._grant()

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        for waiting in list(self.queue):
            if waiting.deadline_ns <= self.now_ns:
                self.fate[waiting.key] = "wait"
                self.queue.remove(waiting)

    def reset(self, law: Aimd) -> None:
        self.law = law
        self.stale = {key for key, fate in self.fate.items() if fate == "held"}
        self._grant()

    def bound(self, floor: float, ceiling: float) -> None:
        self.law.floor, self.law.ceiling = floor, ceiling
        self.law.set(self.law.limit)
        self._grant()

    def _grant(self) -> None:
        while self.queue and self.used < int(self.law.limit):
            key = self.queue.pop(0).key
            self.found[key] = self.used + 1
            self.fate[key] = "held"
