"""
Laws of service times, and what hedging makes of them where nothing queues: exact, by convolution.

With copies drawn independently, started at times 0, h1, h2, ... unless one has ended, a call is longer than t with the
probability S(t) S(t - h1) S(t - h2) ..., where S is the tail of the law, 1 below zero. Copy k starts if all before it
are still under way at its time, so what it adds to the load is the product of their tails there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = [
    "BIGTABLE",
    "MIXTURE",
    "Law",
    "Tail",
    "bigtable",
    "exponential",
    "extra",
    "hedged",
    "lognormal",
    "mixed",
    "quantile",
]

Tail = Callable[[float], float]


@dataclass(frozen=True)
class Law:
    """
    A law of times in milliseconds.

    Attributes:
        name: As it stands in a table.

        mean: In milliseconds.

        tail: The probability of a longer time.

        draw: One time.
    """

    name: str
    mean: float
    tail: Tail
    draw: Callable[[random.Random], float]


def exponential(name: str, mean: float) -> Law:
    """Return the exponential law."""
    return Law(name, mean, lambda t: math.exp(-max(t, 0.0) / mean), lambda draw: draw.expovariate(1 / mean))


def lognormal(name: str, median: float, sigma: float) -> Law:
    """Return the law whose logarithm is normal with the deviation `sigma`."""
    mu = math.log(median)

    def tail(t: float) -> float:
        return 0.5 * math.erfc((math.log(t) - mu) / (sigma * math.sqrt(2))) if t > 0 else 1.0

    return Law(name, median * math.exp(sigma**2 / 2), tail, lambda draw: draw.lognormvariate(mu, sigma))


def mixed(name: str, law: Law, share: float, times: float) -> Law:
    """Return a law of which a share takes so many times as long; two draws whatever comes out."""

    def draw(source: random.Random) -> float:
        slow = source.random() < share
        return law.draw(source) * (times if slow else 1.0)

    return Law(
        name,
        law.mean * (1 + share * (times - 1)),
        lambda t: (1 - share) * law.tail(t) + share * law.tail(t / times),
        draw,
    )


def bigtable() -> Law:
    """
    Return the time of one read such that the slowest of 100 is published right: 1.8 s at p99.9, hedged at 10 ms 74 ms.

    The tail is 0.02 at 10 ms, 0.00325 at 69 ms and 0.00001 at 1.8 s, and a straight line between their logarithms. The
    mean is not given: nothing here needs it.
    """
    points = [(10.0, 0.02), (69.0, 0.00325), (1800.0, 0.00001)]
    (a, at_a), (b, at_b), (c, at_c) = points
    upper = math.log(at_b / at_c) / math.log(c / b)
    lower = math.log(at_a / at_b) / math.log(b / a)

    def tail(t: float) -> float:
        if t > b:
            return at_b * math.pow(t / b, -upper)
        return min(1.0, at_a * math.pow(t / a, -lower)) if t > 0 else 1.0

    def draw(source: random.Random) -> float:
        u = 1.0 - source.random()
        return b * math.pow(u / at_b, -1 / upper) if u < at_b else a * math.pow(u / at_a, -1 / lower)

    return Law("BigTable read", math.nan, tail, draw)


def _lognormal_of(mean: float, deviation: float) -> Law:
    sigma = math.sqrt(math.log(1 + (deviation / mean) ** 2))
    return lognormal(f"lognormal {mean:g}/{deviation:g} ms", mean * math.exp(-(sigma**2) / 2), sigma)


MIXTURE = mixed("lognormal 5/2 ms, 5 % of it 10 times as long", _lognormal_of(5.0, 2.0), 0.05, 10.0)
BIGTABLE = bigtable()


def hedged(law: Law, starts: Sequence[float]) -> Tail:
    """Return the tail of a call that is hedged at these times, in milliseconds from its start."""
    return lambda t: math.prod(law.tail(t - start) for start in (0.0, *starts))


def extra(law: Law, starts: Sequence[float]) -> float:
    """Return the copies a call that are started in addition."""
    times = (0.0, *starts)
    return sum(math.prod(law.tail(at - start) for start in times[:k]) for k, at in enumerate(times) if k)


def quantile(tail: Tail, q: float, copies: int = 1) -> float:
    """
    Return a quantile of the slowest of several independent calls, in milliseconds.

    Args:
        tail: Of one call.

        q: Between 0 and 1.

        copies: How many calls.
    """
    share = -math.expm1(math.log(q) / copies)  # 1 - q ** (1 / copies), without losing it in the rounding
    low, high = 0.0, 1.0
    while tail(high) > share:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > share else (low, middle)
    return high
