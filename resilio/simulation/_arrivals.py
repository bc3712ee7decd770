"""Arrival processes of tasks: their rate may change on a schedule, and they draw from one seeded source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Protocol, runtime_checkable

import attrs

from resilio._options.fields import option
from resilio._options.validators import number, reject, seconds

__all__ = ["Arrivals", "Bursty", "Poisson", "Regular", "Trace"]

Rate = Callable[[float], float]
"""The factor on a load's rate at a time in seconds, as surges set it."""

FASTEST = 1e6
"""Maximum rate in tasks a second; beyond it, describe fewer and heavier tasks."""


@runtime_checkable
class Arrivals(Protocol):
    """A process of arrivals."""

    def times(self, random: Random, factor: Rate) -> Iterator[float]:
        """
        Yield the times at which tasks arrive, in seconds since the run began, finitely or infinitely many.

        Args:
            random: Source of random numbers.

            factor: Returns the factor on the rate at a time.
        """
        ...

    def expected(self, duration: float) -> float:
        """Return the mean number of arrivals within `duration` seconds, without surges."""
        ...


def _rate(name: str, value: object) -> float:
    return number(name, value, low=0.0, high=FASTEST, open_low=True)


@attrs.frozen
class Poisson:
    """
    Independent arrivals, like those from many unrelated clients.

    Args:
        rate: Tasks a second, > 0.
    """

    rate: float = option(_rate)

    def times(self, random: Random, factor: Rate) -> Iterator[float]:
        """Yield times with exponential gaps."""
        now, uniform, log, gap = 0.0, random.random, math.log, -1.0 / self.rate
        while True:
            now += gap * log(1.0 - uniform()) / factor(now)
            yield now

    def expected(self, duration: float) -> float:
        """Return rate times duration."""
        return self.rate * duration


@attrs.frozen
class Regular:
    """
    Arrivals at equal intervals.

    Args:
        rate: Tasks a second, > 0.
    """

    rate: float = option(_rate)

    def times(self, random: Random, factor: Rate) -> Iterator[float]:  # noqa: ARG002
        """Yield times with equal gaps."""
        now, gap = 0.0, 1.0 / self.rate
        while True:
            now += gap / factor(now)
            yield now

    def expected(self, duration: float) -> float:
        """Return rate times duration."""
        return self.rate * duration


@attrs.frozen
class Bursty:
    """
    Poisson arrivals that alternate between two rates, each for a random (exponential) time.

    Args:
        rate: Tasks a second in calm times, > 0.

        burst_rate: Tasks a second in bursts, > 0.

        calm: Mean duration of a calm time, seconds, > 0.

        burst: Mean duration of a burst, seconds, > 0.

    Source: the Markov-modulated Poisson process of two states (Fischer and Meier-Hellstern 1993).
    """

    rate: float = option(_rate)
    burst_rate: float = option(_rate)
    calm: float = option(seconds)
    burst: float = option(seconds)

    def times(self, random: Random, factor: Rate) -> Iterator[float]:
        """Yield the arrivals of calm times and bursts."""
        uniform, log = random.random, math.log
        begin, bursting = 0.0, False
        while True:
            rate, mean = (self.burst_rate, self.burst) if bursting else (self.rate, self.calm)
            end, now = begin - mean * log(1.0 - uniform()), begin
            while (now := now - log(1.0 - uniform()) / rate / factor(now)) < end:
                yield now
            begin, bursting = end, not bursting

    def expected(self, duration: float) -> float:
        """Return the mean rate times duration."""
        return duration * (self.rate * self.calm + self.burst_rate * self.burst) / (self.calm + self.burst)


def _times(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
        reject(name, values, "a sequence of one or more times in seconds", TypeError)
    found = tuple(seconds(f"{name}[{index}]", value, zero_ok=True) for index, value in enumerate(values))
    for index, (before, after) in enumerate(pairwise(found), 1):
        if after < before:
            reject(f"{name}[{index}]", after, f"at least the time before it, {before:g}")
    return found


@attrs.frozen
class Trace:
    """
    Recorded arrivals; surges do not change them.

    Args:
        at: Arrival time of each task, in seconds since the recording began, in order.
    """

    at: Sequence[float] = option(_times)

    def times(self, random: Random, factor: Rate) -> Iterator[float]:  # noqa: ARG002
        """Yield the recorded times."""
        return iter(self.at)

    def expected(self, duration: float) -> float:
        """Return the number of arrivals recorded within `duration`."""
        return sum(when <= duration for when in self.at)
