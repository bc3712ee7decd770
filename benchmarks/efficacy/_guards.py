"""
What stands before a dependency in the tables of outages: the library's breakers, and published designs beside them.

The published ones are small implementations of what their documentation says, with their constants. Each counts as the
original does: what it rejects is among the calls asked for, but of a dependency's answers it learns when they come.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resilio import CircuitBreaker
from resilio._native import clock

__all__ = ["SECOND", "Classic", "ClientThrottle", "GoZero", "Guard", "Kratos", "Ours"]

SECOND = 1_000_000_000


class Guard(Protocol):
    """Admits calls, and learns how they end; times are seconds."""

    def ask(self, now: float) -> Any:
        """Return what the call holds, or None if it is rejected."""

    def end(self, held: Any, good: bool, now: float) -> None:
        """Learn how a call ended that was admitted."""


class Ours:
    """A breaker of the library on its virtual clock, which must be set."""

    def __init__(self, breaker: CircuitBreaker, seed: int) -> None:
        self.breaker = breaker
        breaker._gate._seed(seed * 2654435761 + 1)  # type: ignore[attr-defined]

    def ask(self, now: float) -> Any:
        """Ask the breaker for a permit."""
        clock.set_virtual(round(now * SECOND))
        permit = self.breaker.try_acquire()
        return permit if permit.admitted else None

    def end(self, held: Any, good: bool, now: float) -> None:
        """End the permit."""
        clock.set_virtual(round(now * SECOND))
        (held.success if good else held.failure)()


class _Buckets:
    """Counts of the last so many seconds, in buckets."""

    def __init__(self, span: float, size: int) -> None:
        self.width = span / size
        self.size = size
        self.kept: deque[list[int]] = deque()  # number of the bucket, good, bad, rejected
        self.good = self.bad = self.rejected = 0

    def advance(self, now: float) -> int:
        number = int(now / self.width)
        while self.kept and self.kept[0][0] <= number - self.size:
            _, good, bad, rejected = self.kept.popleft()
            self.good -= good
            self.bad -= bad
            self.rejected -= rejected
        return number

    def add(self, now: float, kind: int) -> None:
        number = self.advance(now)
        if not self.kept or self.kept[-1][0] != number:
            self.kept.append([number, 0, 0, 0])
        self.kept[-1][kind] += 1
        self.good += kind == 1
        self.bad += kind == 2
        self.rejected += kind == 3


@dataclass
class _Random:
    seed: int

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed).random


class ClientThrottle(_Random):
    """
    Client-side throttling: Google, "Site Reliability Engineering", chapter 21.

    Args:
        seed: Of its draws.

        k: How many calls may be asked for to one that is accepted.

        span: Seconds that it looks back.
    """

    def __init__(self, seed: int, k: float, span: float = 120.0) -> None:
        super().__init__(seed)
        self.k = k
        self.asked = _Buckets(span, 120)
        self.accepted = _Buckets(span, 120)

    def ask(self, now: float) -> Any:
        """Reject by the ratio of all calls asked for to those accepted."""
        self.asked.advance(now)
        self.accepted.advance(now)
        total = self.asked.good
        share = (total - self.k * self.accepted.good) / (total + 1)
        self.asked.add(now, 1)
        return None if self.draw() < share else True

    def end(self, held: Any, good: bool, now: float) -> None:  # noqa: ARG002
        """Count what is accepted."""
        if good:
            self.accepted.add(now, 1)


class Kratos(_Random):
    """The breaker of go-kratos/aegis: the same ratio over 3 s in 10 buckets, from 100 calls on, K = 1 / 0.6."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seen = _Buckets(3.0, 10)

    def ask(self, now: float) -> Any:
        """Reject by the ratio; what is rejected counts as failed."""
        self.seen.advance(now)
        total = self.seen.good + self.seen.bad
        allowed = self.seen.good / 0.6
        if total >= 100 and total >= allowed and self.draw() < (total - allowed) / (total + 1):
            self.seen.add(now, 2)
            return None
        return True

    def end(self, held: Any, good: bool, now: float) -> None:  # noqa: ARG002
        """Count the answer when it comes."""
        self.seen.add(now, 1 if good else 2)


class GoZero(_Random):
    """The breaker of zeromicro/go-zero: 10 s in 40 buckets, K from 1.5 to 1.1, a call passes each second."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seen = _Buckets(10.0, 40)
        self.passed = 0.0

    def ask(self, now: float) -> Any:
        """Reject by the ratio, less where the last buckets held no failure."""
        self.seen.advance(now)
        total = self.seen.good + self.seen.bad + self.seen.rejected
        working = failing = 0
        for _, good, bad, _rejected in self.seen.kept:
            working = 0 if bad else working + (good > 0)
            failing = 0 if good else failing + (bad > 0)
        k = 1.5 - 0.4 * failing / 40
        share = (total - 5 - max(k, 1.1) * self.seen.good) / (total + 1)
        if share <= 0:
            return True
        forced = self.passed > 0 and now - self.passed > 1.0
        if not forced and self.draw() < share * (40 - working) / 40:
            self.seen.add(now, 3)
            return None
        self.passed = now
        return True

    def end(self, held: Any, good: bool, now: float) -> None:  # noqa: ARG002
        """Count the answer when it comes."""
        self.seen.add(now, 1 if good else 2)


class Classic:
    """A breaker of the textbook: opens at 50 % of at least 20 calls in 10 s, for 30 s; five probes close it."""

    def __init__(self, seed: int) -> None:  # noqa: ARG002
        self.seen = _Buckets(10.0, 10)
        self.until = -1.0  # closed: below 0
        self.probes = self.good = 0
        self.round = 0

    def ask(self, now: float) -> Any:
        """Reject while it is open, and all but five while it is half open."""
        if self.until < 0:
            return self.round
        if now < self.until or self.probes >= 5:
            return None
        self.probes += 1
        return self.round

    def end(self, held: Any, good: bool, now: float) -> None:
        """Count, open or close; what was admitted before does not count."""
        if held != self.round:
            return
        if self.until >= 0:
            self.good += good
            if not good:
                self._open(now)
            elif self.good == 5:
                self.__init__(0)  # type: ignore[misc]
            return
        self.seen.add(now, 1 if good else 2)
        total = self.seen.good + self.seen.bad
        if total >= 20 and self.seen.bad / total >= 0.5:
            self._open(now)

    def _open(self, now: float) -> None:
        self.until = now + 30.0
        self.probes = self.good = 0
        self.round += 1
        self.seen = _Buckets(10.0, 10)


Make = Callable[[int], Guard]
