"""
What the timers under all timeouts cost: arming one and disarming it while few or very many others are pending.

The loop's own `call_later` and `cancel` stand beside it. A cancelled timer stays in the loop's heap until those are
the most; taking them out is part of what it costs, and happens in the timed part.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import thread_time_ns
from typing import Any, TypeAlias

from benchmarks.micro._harness import summary
from benchmarks.micro._results import Row, Table
from resilio._native import clock
from resilio._native.core import Timer

__all__ = ["pair_ns", "timers_table"]

FEW = 10
PAIRS = 50_000
_SPREAD = 600.0
"""The pending timers are due at times spread over so many seconds, after the one that is measured or before it."""

_Pending: TypeAlias = list[Any]


def _of_the_wheel(pending: int) -> tuple[_Pending, Callable[[int], int]]:
    timers = [Timer(print) for _ in range(pending)]
    for timer, seconds in zip(timers, _seconds(pending), strict=True):
        timer.arm(seconds)

    def run(pairs: int) -> int:
        timer = Timer(print)
        start = thread_time_ns()
        for _ in range(pairs):
            timer.arm(300.0)
            timer.disarm()
        return thread_time_ns() - start

    return timers, run


def _of_the_loop(pending: int) -> tuple[_Pending, Callable[[int], int]]:
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(seconds, print) for seconds in _seconds(pending)]

    def run(pairs: int) -> int:
        start = thread_time_ns()
        for _ in range(pairs):
            loop.call_later(300.0, print).cancel()
        return thread_time_ns() - start

    return handles, run


_SUBJECTS: dict[str, Callable[[int], tuple[_Pending, Callable[[int], int]]]] = {
    "resilio Timer": _of_the_wheel,
    "loop.call_later": _of_the_loop,
}


def _seconds(pending: int) -> list[float]:
    generator = random.Random(pending)
    return [generator.uniform(60.0, _SPREAD) for _ in range(pending)]


async def _pairs(make: Callable[[int], tuple[_Pending, Callable[[int], int]]], pending: int, pairs: int) -> float:
    timers, run = make(pending)
    await asyncio.sleep(0)
    total = 0
    for _ in range(10):
        total += run(pairs // 10)
        start = thread_time_ns()
        await asyncio.sleep(0)  # here the loop takes out what was cancelled
        total += thread_time_ns() - start
    timers.clear()
    return total / pairs


def pair_ns(subject: str, pending: int, pairs: int) -> float:
    """
    Return nanoseconds for arming and disarming one timer, in a loop of its own.

    Args:
        subject: "resilio Timer" or "loop.call_later".

        pending: How many other timers are armed.

        pairs: How often, at least 10.
    """
    return asyncio.run(_pairs(_SUBJECTS[subject], pending, pairs))


def timers_table(many: int, rounds: int, pairs: int = PAIRS) -> Table:
    """Return what a timer costs among few and among *many* others, measured in turns."""
    order = [(subject, pending) for subject in _SUBJECTS for pending in (FEW, many)]
    series: dict[tuple[str, int], list[float]] = {case: [] for case in order}
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for subject, pending in order:
            series[subject, pending].append(pair_ns(subject, pending, pairs))
    about = f"Nanoseconds to arm and disarm one, from Python; {rounds} rounds of {pairs:,}."
    rows = [row for subject in _SUBJECTS for row in _rows(subject, series[subject, FEW], series[subject, many], many)]
    return Table("timers", "Timers that do not fire", about, tuple(rows))


def _rows(subject: str, few: list[float], lots: list[float], many: int) -> list[Row]:
    own = subject.startswith("resilio")
    read = clock.source() if own else "-"
    ratios = summary([more / less for more, less in zip(lots, few, strict=True)])
    rows = []
    for pending, measured in ((FEW, few), (many, lots)):
        figure = summary(measured)
        rows.append(Row(f"{subject}, {pending:,} pending", figure.value, "ns", figure.low, figure.high, clock=read))
    title = f"{subject}, {many:,} pending / {FEW}"
    rows.append(Row(title, ratios.value, "x", ratios.low, ratios.high, clock=read))
    return rows
