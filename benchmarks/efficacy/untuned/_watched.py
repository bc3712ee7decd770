"""Curves of a cell over time: the answers, the requests, the latency, and what a policy has learnt."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from benchmarks.efficacy.untuned._cell import Call, Cell
from benchmarks.efficacy.untuned._run import Run
from benchmarks.efficacy.untuned._stacks import OURS, STACKS
from benchmarks.efficacy.untuned.cells import CELLS
from resilio import policy_of
from resilio.testing import seeded, virtual_time

__all__ = ["QUANTITIES", "Points", "cell_of", "curve"]

_WATCHED = 10.0  # seconds of what comes to an end
Points = list[tuple[float, float | None]]


def _no_figure(_: Any) -> float:
    return math.nan


_LEARNT: Mapping[str, Callable[[Any], float]] = {
    "limit": lambda policy: policy.limit,
    "timeout": lambda policy: policy.policies[-1].seconds,
}
"""What a policy knows."""


class _Watched(Run):
    def __init__(self, cell: Cell, stack: str, seed: int, slot: float, read: Callable[[Any], float]) -> None:
        super().__init__(cell, STACKS[stack], stack in OURS, seed)
        self.slot, self.read = slot, read
        self.sent: list[float] = []
        self.learnt: Points = []

    def count(self, call: Call) -> None:
        super().count(call)
        self.sent.append(self.now)

    async def watch(self) -> _Watched:
        """Run the cell, and read the policy of the first client after each slot."""
        looking = self.loop.create_task(self._look())
        await self.go()
        looking.cancel()
        return self

    async def _look(self) -> None:
        while self.read is not _no_figure:
            self.learnt.append((self.now, self.read(policy_of(self.clients[0]))))
            await asyncio.sleep(self.slot)

    def slots(self) -> list[list[Call]]:
        """Return the calls that count, by the slot in which they came."""
        calls = [call for task in self.counted for call in task if self.cell.kind in {None, call.kind}]
        slots: list[list[Call]] = [[] for _ in range(int(max(call.at for call in calls) / self.slot) + 1)]
        for call in calls:
            slots[int(call.at / self.slot)].append(call)
        return slots

    def batches(self) -> list[tuple[float, list[bool]]]:
        """Return when calls came, and which of those that came at once were answered in time."""
        calls = [call for task in self.counted for call in task]
        return [(at, [*map(self.good, one)]) for at, one in groupby(calls, lambda call: call.at)]

    def good(self, call: Call) -> bool:
        """Return whether a call was answered in time."""
        return self.took.get(call, math.inf) <= self.cell.patience


def _share(run: _Watched) -> Sequence[float | None]:
    return [sum(map(run.good, calls)) / len(calls) if calls else None for calls in run.slots()]


def _p99(run: _Watched) -> Sequence[float | None]:
    ends = [sorted(run.took[call] for call in calls if call in run.took) for calls in run.slots()]
    return [one[math.ceil(0.99 * len(one)) - 1] if one else None for one in ends]


def _requests(run: _Watched) -> Sequence[float]:
    rates = [0.0] * (int(run.sent[-1] / run.slot) + 1)
    for at in run.sent:
        rates[int(at / run.slot)] += 1 / run.slot
    return rates


def _lost(run: _Watched) -> Sequence[float]:
    """Count the calls so far that were not answered in time."""
    total, found = 0.0, []
    for calls in run.slots():
        total += sum(not run.good(call) for call in calls)
        found.append(total)
    return found


def _answered(run: _Watched) -> Sequence[float]:
    """Return the share of all calls that had been answered by the end of each slot."""
    ends = sorted(call.at + run.took[call] for calls in run.slots() for call in calls if run.good(call))
    every = sum(map(len, run.slots()))
    steps = range(1, round(_WATCHED / run.slot) + 1)
    return [bisect_right(ends, step * run.slot) / every for step in steps]


QUANTITIES: Mapping[str, Callable[[_Watched], Sequence[float | None]]] = {
    "share": _share,
    "p99": _p99,
    "requests": _requests,
    "lost": _lost,
    "answered": _answered,
}
"""By name, how to get a figure for each slot; "limit" and "timeout" are read from the policy."""


def cell_of(name: str) -> Cell:
    """Return a declared cell by its family and name."""
    return next(cell for cell in CELLS if str(cell) == name)


@lru_cache
def _watched(name: str, stack: str, slot: float, learnt: str | None) -> _Watched:
    with seeded(1), virtual_time() as vt:
        cell = dataclasses.replace(cell_of(name), since=0.0)
        return vt.run(_watch, cell, stack, slot, _LEARNT.get(learnt or "", _no_figure))


async def _watch(cell: Cell, stack: str, slot: float, read: Callable[[Any], float]) -> _Watched:
    return await _Watched(cell, stack, 1, slot, read).watch()


def curve(name: str, stack: str, quantity: str, slot: float) -> Points:
    """
    Return a quantity over time.

    Args:
        name: Of a declared cell.

        stack: One of `STACKS`.

        quantity: One of `QUANTITIES`; "limit", "timeout"; or "batches", the share of those that came at once.

        slot: Seconds between two points.
    """
    run = _watched(name, stack, slot, quantity if quantity in _LEARNT else None)
    if quantity in _LEARNT:
        points = run.learnt
    elif quantity == "batches":
        points = [(at, sum(good) / len(good)) for at, good in run.batches()]
    else:
        points = [(slot * (number + 0.5), y) for number, y in enumerate(QUANTITIES[quantity](run))]
    return [(round(at, 3), None if y is None else round(y, 4)) for at, y in points]
