"""
Interleaved measuring: in every round each case runs once, in an order that is shuffled anew.

Neighbours on the machine, the processor's clock and its temperature drift over seconds. A case that ran alone for
its seconds would be compared with another that had a different machine. Here all cases see the same drift, and what a
case adds to its base is the median of the differences *within* rounds.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median, quantiles
from typing import TypeAlias

import attrs

from benchmarks.micro._loops import Loop

__all__ = ["Case", "Effort", "Figure", "Series", "added", "measure", "quiet_collector", "ratio", "summary"]

Series: TypeAlias = Mapping[str, Sequence[float]]
"""Nanoseconds a call, by case, one figure a round. Index i is the same round in all of them."""


@attrs.frozen
class Case:
    """One thing to measure, under a name that is unique among the cases measured together."""

    name: str
    loop: Loop


@attrs.frozen
class Effort:
    """How long to measure: rounds, and nanoseconds that one case runs for in one round."""

    rounds: int = 151
    sample_ns: int = 1_500_000
    seed: int = 1

    def __str__(self) -> str:
        """In words for the report: "41 rounds, 1.5 ms a subject"."""
        return f"{self.rounds} rounds, {self.sample_ns / 1e6:g} ms a subject"


@attrs.frozen
class Figure:
    """A median with its quartiles."""

    value: float
    low: float
    high: float


async def measure(cases: Sequence[Case], effort: Effort) -> Series:
    """Return what every case took in every round; each round runs each case once, in a shuffled order."""
    order = list(cases)
    shuffle = random.Random(effort.seed).shuffle
    counts = {case.name: await _calibrate(case.loop, effort.sample_ns) for case in cases}
    series: dict[str, list[float]] = {case.name: [] for case in cases}
    with quiet_collector():
        for _ in range(effort.rounds):
            shuffle(order)
            for case in order:
                n = counts[case.name]
                series[case.name].append(await case.loop(n) / n)
    return series


async def _calibrate(loop: Loop, sample_ns: int) -> int:
    """Return how many calls take about *sample_ns*; calling that often also warms the loop up."""
    n = 1
    while (elapsed := await loop(n)) < sample_ns / 4:
        n *= 2
    return max(1, round(n * sample_ns / max(elapsed, 1)))


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Leave the garbage collector on, but spare it what was there before: only garbage made by a case costs it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def summary(samples: Sequence[float]) -> Figure:
    """Return the median and the quartiles of *samples*."""
    if len(samples) < 2:
        return Figure(samples[0], samples[0], samples[0])
    low, _, high = quantiles(samples, n=4)
    return Figure(median(samples), low, high)


def added(series: Series, case: str, base: str) -> Figure:
    """Return what *case* costs on top of *base*: the median of the differences within rounds."""
    return summary([mine - its for mine, its in zip(series[case], series[base], strict=True)])


def ratio(figure: Figure, unit: Figure) -> Figure:
    """Return *figure* as a multiple of the median of *unit*."""
    return Figure(figure.value / unit.value, figure.low / unit.value, figure.high / unit.value)
