"""Loads of many processes on one limit, the ideal bucket that they are held against, and ways of others to share."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Protocol

import attrs

__all__ = ["LOADS", "OTHERS", "Bucket", "Figures", "Load", "Shares", "figures"]

Rate = float | Callable[[float], float]
Arrivals = Sequence[tuple[float, int]]

RTT = 0.001


@attrs.frozen
class Load:
    """
    Calls of many processes on one limit.

    Attributes:
        rates: Calls a second of each process, or a function of the time; `peak` is its maximum then.

        rate, burst: Of the limit.

        seconds: How long.

        peak: Calls a second and process at most, for rates that change.
    """

    rates: Sequence[Rate]
    rate: float = 1000.0
    burst: float = 1000.0
    seconds: float = 20.0
    peak: float = 0.0

    @property
    def processes(self) -> int:
        """How many there are."""
        return len(self.rates)

    def arrivals(self, seed: int) -> list[tuple[float, int]]:
        """Return the times of all calls in order, each with the process that makes it."""
        random = Random(seed)
        return sorted(pair for number in range(self.processes) for pair in self._of(number, random))

    def _of(self, number: int, random: Random) -> Iterable[tuple[float, int]]:
        rate = self.rates[number]
        peak, now = rate if isinstance(rate, (int, float)) else self.peak, 0.0
        while peak > 0.0:
            now += random.expovariate(peak)
            if now > self.seconds:
                return
            if isinstance(rate, (int, float)) or random.random() < rate(now) / peak:
                yield now, number


def _zipf(processes: int, total: float) -> list[float]:
    weights = [1 / number**1.2 for number in range(1, processes + 1)]
    return [total * weight / sum(weights) for weight in weights]


def _in_turn(number: int) -> Callable[[float], float]:
    return lambda now: 72.0 if int(now) % 2 == number % 2 else 0.0


LOADS: Mapping[str, Load] = {
    "even, 0.5 x": Load([10.0] * 50),
    "even, 0.95 x": Load([19.0] * 50),
    "even, 5 x": Load([100.0] * 50),
    "Zipf 1.2, 0.95 x": Load(_zipf(50, 950.0)),
    "Zipf 1.2, 3 x": Load(_zipf(50, 3000.0)),
    "one has 80 %, 0.95 x": Load([760.0, *[190.0 / 49] * 49]),
    "step from 0.2 to 5 x": Load([lambda now: 100.0 if now > 10.0 else 4.0] * 50, peak=100.0),
    "half of them in turn, 1.8 x": Load([_in_turn(number) for number in range(50)], peak=72.0),
}
"""The eight loads of 50 processes."""


class Bucket:
    """The ideal bucket: one for all, which each call reaches at once."""

    def __init__(self, load: Load) -> None:
        self._rate, self._burst = load.rate, load.burst
        self.tokens, self._at = load.burst, 0.0

    def flow(self, now: float) -> float:
        """Let tokens come in, and return how many there are."""
        self.tokens = min(self._burst, self.tokens + (now - self._at) * self._rate)
        self._at = now
        return self.tokens

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        admitted = self.flow(now) >= 1.0
        self.tokens -= admitted
        return admitted


@attrs.frozen
class Figures:
    """
    What came of a load.

    Attributes:
        used: Calls admitted, as a share of those that the ideal bucket admits.

        overdraft: Tokens that the ideal bucket would be short of, if it had to admit the same calls.

        most: Calls admitted in any second beyond burst and rate, as a share of the rate.

        trips: A second.
    """

    used: float
    overdraft: float
    most: float
    trips: float


def figures(load: Load, arrivals: Arrivals, admitted: Sequence[float], trips: int) -> Figures:
    """Return the figures of the times of admitted calls."""
    ideal, forced = Bucket(load), Bucket(load)
    could = sum(ideal.take(now) for now, _ in arrivals)
    worst = 0.0
    for now in admitted:
        forced.flow(now)
        forced.tokens -= 1.0
        worst = min(worst, forced.tokens)
    first, most = 0, 0
    for number, now in enumerate(admitted, 1):
        while admitted[first] < now - 1.0:
            first += 1
        most = max(most, number - first)
    return Figures(
        len(admitted) / could, -worst + 0.0, (most - load.burst - load.rate) / load.rate, trips / load.seconds
    )


# ---- ways that others have ------------------------------------------------------------------------------------------


class Shares(Protocol):
    """A way to share a limit."""

    trips: int

    def call(self, process: int, now: float) -> bool:
        """Return True if a call of this process is admitted."""
        ...


class _Timed:
    """Base of the models: a store, and messages that take their time."""

    def __init__(self, load: Load) -> None:
        self.trips = 0
        self.load = load
        self.store = Bucket(load)
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()

    def at(self, when: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (when, next(self._numbers), what))

    def run(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            when, _, what = heapq.heappop(self._due)
            what(when)


class PerCall(_Timed):
    """A trip a call."""

    def call(self, process: int, now: float) -> bool:  # noqa: ARG002
        self.trips += 1
        return self.store.take(now)


class Split(_Timed):
    """The rate divided by the number of processes."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        share = attrs.evolve(load, rate=load.rate / load.processes, burst=max(1.0, load.burst / load.processes))
        self._own = [Bucket(share) for _ in load.rates]

    def call(self, process: int, now: float) -> bool:
        return self._own[process].take(now)


class Batches(_Timed):
    """Fifty tokens a trip, fetched when the last are spent; a call does not wait for them."""

    SIZE, PAUSE = 50, 0.01

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._left = [0] * load.processes
        self._asks = [False] * load.processes
        self._next = [0.0] * load.processes

    def call(self, process: int, now: float) -> bool:
        self.run(now)
        admitted = self._left[process] >= 1
        self._left[process] -= admitted
        if self._left[process] < 1 and not self._asks[process] and now >= self._next[process]:
            self._asks[process] = True
            self.at(now + RTT / 2, lambda when: self._arrive(process, when))
        return admitted

    def _arrive(self, process: int, now: float) -> None:
        self.trips += 1
        granted = min(self.SIZE, int(self.store.flow(now)))
        self.store.tokens -= granted
        self.at(now + RTT / 2, lambda when: self._back(process, when, granted))

    def _back(self, process: int, now: float, granted: int) -> None:
        self._left[process] += granted
        self._asks[process] = False
        self._next[process] = now + (0.0 if granted else self.PAUSE)


class Synced(_Timed):
    """Count here, report now and then, and learn what all have counted."""

    def __init__(self, load: Load, every: float, seed: int = 3) -> None:
        super().__init__(load)
        self._every = every
        self._own = [Bucket(load) for _ in load.rates]
        self._counted = [0] * load.processes
        random = Random(seed)
        for number in range(load.processes):
            self.at(random.random() * every, lambda when, number=number: self._tick(number, when))  # type: ignore[misc]

    def call(self, process: int, now: float) -> bool:
        self.run(now)
        admitted = self._own[process].take(now)
        self._counted[process] += admitted
        return admitted

    def _tick(self, process: int, now: float) -> None:
        reported, self._counted[process] = self._counted[process], 0
        self.at(now + RTT / 2, lambda when: self._arrive(process, when, reported))
        self.at(now + self._every, lambda when: self._tick(process, when))

    def _arrive(self, process: int, now: float, reported: int) -> None:
        self.trips += 1
        self.store.flow(now)
        self.store.tokens -= reported
        left = self.store.tokens
        self.at(now + RTT / 2, lambda when: self._back(process, when, left))

    def _back(self, process: int, now: float, left: float) -> None:
        own = self._own[process]
        own.flow(now)
        own.tokens = left - self._counted[process]


OTHERS: Mapping[str, Callable[[Load], Shares]] = {
    "a trip a call": PerCall,
    "rate / N each": Split,
    "batches of 50": Batches,
    "count, sync 0.1 s": lambda load: Synced(load, 0.1),
    "count, sync 1 s": lambda load: Synced(load, 1.0),
}
