"""
Laws of random times, each drawn from one seeded source by its own formula.

Of `random.Random` the formulas use `random()` alone, whose numbers are the same in every version of Python.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Any, Protocol, runtime_checkable

import attrs

from resilio._options.fields import option
from resilio._options.validators import fraction, number, reject, seconds

__all__ = ["Constant", "Empirical", "Exponential", "Law", "Lognormal", "Mixture", "Pareto", "Uniform"]

Draw = Callable[[], float]


@runtime_checkable
class Law(Protocol):
    """A law of random times."""

    @property
    def mean(self) -> float:
        """The mean, in seconds; infinite for a Pareto law with a shape of at most 1."""
        ...

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws a time in seconds, from `random` alone."""
        ...


@attrs.frozen
class Constant:
    """
    Always the same time.

    Args:
        mean: Seconds, >= 0.
    """

    mean: float = option(seconds, zero_ok=True)

    def sampler(self, random: Random) -> Draw:  # noqa: ARG002
        """Return a function that returns the mean."""
        mean = self.mean
        return lambda: mean


@attrs.frozen
class Exponential:
    """
    Memoryless times: the standard deviation equals the mean, and p99 is 4.6 times the mean.

    Args:
        mean: Seconds, > 0.
    """

    mean: float = option(seconds)

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws by inversion."""
        mean, uniform, log = self.mean, random.random, math.log
        return lambda: -mean * log(1.0 - uniform())


@attrs.frozen
class Uniform:
    """
    Times uniformly distributed between two bounds.

    Args:
        low: Seconds, >= 0.

        high: Seconds, >= low.
    """

    low: float = option(seconds, zero_ok=True)
    high: float = option(seconds, zero_ok=True)

    def __attrs_post_init__(self) -> None:
        if self.high < self.low:
            reject("high", self.high, f"at least low={self.low:g}")

    @property
    def mean(self) -> float:
        """The middle of the bounds."""
        return (self.low + self.high) / 2

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws uniformly."""
        low, width, uniform = self.low, self.high - self.low, random.random
        return lambda: low + width * uniform()


@attrs.frozen
class Lognormal:
    """
    Times whose logarithm is normally distributed, as is typical for latencies of services.

    Args:
        mean: Seconds, > 0.

        cv: The coefficient of variation: standard deviation divided by the mean, > 0. Services have 0.3 to 3.
    """

    mean: float = option(seconds)
    cv: float = option(number, low=0.0, high=100.0, open_low=True, default=1.0)

    @classmethod
    def of_median(cls, median: float, sigma: float) -> Lognormal:
        """Return the law with this median in seconds and this standard deviation of the logarithm."""
        half = seconds("median", median) * math.exp(number("sigma", sigma, low=0.0, high=5.0, open_low=True) ** 2 / 2)
        return cls(half, math.sqrt(math.expm1(sigma**2)))

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws by Box and Muller's transform."""
        variance = math.log1p(self.cv**2)
        scale, sigma = self.mean * math.exp(-variance / 2), math.sqrt(variance)
        normal, exp = _normal(random.random), math.exp
        return lambda: scale * exp(sigma * normal())


def _normal(uniform: Draw) -> Draw:
    """Return a function that draws normal numbers; they come in pairs, and the second is kept for the next call."""
    log, sqrt, cos, sin, turn = math.log, math.sqrt, math.cos, math.sin, 2 * math.pi
    kept: list[float] = []

    def normal() -> float:
        if kept:
            return kept.pop()
        radius, angle = sqrt(-2.0 * log(1.0 - uniform())), turn * uniform()
        kept.append(radius * sin(angle))
        return radius * cos(angle)

    return normal


@attrs.frozen
class Pareto:
    """
    Heavy-tailed times: the probability of exceeding t falls as t to the power of -shape.

    Args:
        minimum: The shortest time, seconds, > 0.

        shape: > 0. Up to 2 the variance is infinite, up to 1 the mean too.

        maximum: Upper bound of draws in seconds, so that one draw does not outlast the run; None for no bound.
    """

    minimum: float = option(seconds)
    shape: float = option(number, low=0.0, high=100.0, open_low=True)
    maximum: float | None = option(seconds, none_ok=True, default=None)

    def __attrs_post_init__(self) -> None:
        if self.maximum is not None and self.maximum < self.minimum:
            reject("maximum", self.maximum, f"at least minimum={self.minimum:g}, or None")

    @property
    def mean(self) -> float:
        """The mean, with draws bounded by `maximum`."""
        low, high, shape = self.minimum, self.maximum, self.shape
        if high is None:
            return shape * low / (shape - 1) if shape > 1 else math.inf
        if shape == 1:
            return low * (1 + math.log(high / low))
        return low * (shape - math.exp((shape - 1) * math.log(low / high))) / (shape - 1)

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws by inversion."""
        low, power, uniform, log, exp = self.minimum, -1.0 / self.shape, random.random, math.log, math.exp
        longest = math.log(min(_FOREVER, self.maximum or _FOREVER) / low)
        return lambda: low * exp(min(longest, power * log(1.0 - uniform())))


_FOREVER = 1e8  # seconds: three years, longer than any simulation


def _samples(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
        reject(name, values, "a sequence of one or more times in seconds", TypeError)
    return tuple(seconds(f"{name}[{index}]", value, zero_ok=True) for index, value in enumerate(values))


@attrs.frozen
class Empirical:
    """
    Measured times: each draw is one of the samples, with equal probability.

    Args:
        samples: Seconds, one or more, in any order.
    """

    samples: Sequence[float] = option(_samples)

    @property
    def mean(self) -> float:
        """The mean of the samples."""
        return math.fsum(self.samples) / len(self.samples)

    def sampler(self, random: Random) -> Draw:
        """Return a function that draws one of the samples."""
        samples, count, uniform = self.samples, len(self.samples), random.random
        return lambda: samples[int(count * uniform())]


def _parts(name: str, parts: object) -> tuple[tuple[float, Law], ...]:
    if not isinstance(parts, Sequence) or not parts:
        reject(name, parts, "a sequence of pairs of a share and a law", TypeError)
    found = tuple(_part(f"{name}[{index}]", part) for index, part in enumerate(parts))
    if not math.isclose(total := math.fsum(share for share, _ in found), 1.0, abs_tol=1e-9):
        reject(name, total, "pairs whose shares add up to 1")
    return found


def _part(name: str, part: Any) -> tuple[float, Law]:
    if not isinstance(part, Sequence) or len(part) != 2 or not isinstance(part[1], Law):
        reject(name, part, "a pair of a share and a law", TypeError)
    return fraction(f"{name}[0]", part[0]), part[1]


@attrs.frozen
class Mixture:
    """
    A random choice of several laws at each draw, like hits and misses of a cache, or one slow request in twenty.

    Args:
        parts: Pairs of a share, > 0, and a law; the shares add up to 1.
    """

    parts: Sequence[tuple[float, Law]] = option(_parts)

    @property
    def mean(self) -> float:
        """The mean of the laws, weighted with their shares."""
        return math.fsum(share * law.mean for share, law in self.parts)

    def sampler(self, random: Random) -> Draw:
        """Return a function that chooses a law and draws from it."""
        uniform, draws = random.random, [law.sampler(random) for _, law in self.parts]
        bounds = list(accumulate(share for share, _ in self.parts))[:-1]

        def draw() -> float:
            return draws[bisect(bounds, uniform())]()

        return draw
