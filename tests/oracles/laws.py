"""What the three published laws say, word for word, in the plainest form: the native ones are held against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Aimd", "Gradient", "Vegas"]


@dataclass
class Bounded:
    """What all have: a limit within bounds, and a drop that is believed once a round."""

    limit: float
    floor: float
    ceiling: float
    spared: float = 0.0

    def set(self, limit: float) -> None:
        """Take the limit, within the bounds."""
        self.limit = min(max(limit, self.floor), self.ceiling)

    def learn(self, latency: float, inflight: float, dropped: bool) -> None:
        """Learn from the end of one call; latency in nanoseconds."""
        self.spared -= 1
        if not dropped:
            self.sample(latency, inflight)
        elif self.spared <= 0:
            self.spared = self.limit
            self.drop()

    def sample(self, latency: float, inflight: float) -> None:
        """Learn from an answer."""
        raise NotImplementedError

    def drop(self) -> None:
        """Learn from a drop."""
        self.set(self.limit * 0.9)


@dataclass
class Aimd(Bounded):
    """One up for each call that found the limit half used, a tenth down on a drop."""

    def sample(self, latency: float, inflight: float) -> None:
        """Learn from an answer."""
        if 2 * inflight >= self.limit:
            self.set(self.limit + 1)


@dataclass
class Gradient(Bounded):
    """L' = .8 L + .2 (L clamp(1.5 long / short, .5, 1) + 4)."""

    long: float = 0.0
    count: int = 0

    def sample(self, latency: float, inflight: float) -> None:
        """Learn from an answer."""
        self.count = min(self.count + 1, 10)
        self.long += (latency - self.long) * (1 / self.count if self.count < 10 else 2 / 601)
        if self.long > 2 * latency:
            self.long *= 0.95
        if 2 * inflight >= self.limit:
            gradient = min(max(1.5 * self.long / latency, 0.5), 1.0)
            self.set(0.8 * self.limit + 0.2 * (self.limit * gradient + 4))


@dataclass
class Vegas(Bounded):
    """A queue of at most 6 log10 L; the baseline is the least latency since it was last asked anew."""

    least: float = 0.0
    count: int = 0
    random: int = 88172645463325252
    ask: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.ask = 30 * self.limit

    def draw(self) -> float:
        """A number in [0, 1): xorshift64."""
        for left, by in ((True, 13), (False, 7), (True, 17)):
            self.random ^= (self.random << by if left else self.random >> by) & 0xFFFFFFFFFFFFFFFF
        return (self.random >> 11) * 2.0**-53

    def drop(self) -> None:
        """Learn from a drop."""
        self.set(self.limit - max(1.0, math.log10(self.limit)))

    def sample(self, latency: float, inflight: float) -> None:
        """Learn from an answer."""
        self.count += 1
        if self.count >= self.ask:
            self.count = 0
            self.ask = 30 * self.limit * (0.5 + self.draw() / 2)
            self.least = latency
        elif self.least == 0 or latency < self.least:
            self.least = latency
        elif 2 * inflight >= self.limit:
            self.follow(math.ceil(self.limit * (1 - self.least / latency)))

    def follow(self, queue: int) -> None:
        """Move the limit by what seems to queue."""
        unit = max(1.0, math.log10(self.limit))
        if queue <= unit:
            self.set(self.limit + 6 * unit)
        elif queue < 3 * unit:
            self.set(self.limit + unit)
        elif queue > 6 * unit:
            self.set(self.limit - unit)
