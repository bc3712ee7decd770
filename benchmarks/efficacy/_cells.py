"""
The cells of R11, what a front makes of one, and the judgement: against the baselines, and against what is possible.

A front comes as what makes one for a mean time of service in seconds: those baselines need it that were tuned to one.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from benchmarks.efficacy._baselines import BASELINES, Unbounded
from benchmarks.efficacy._guarded import Queueing
from benchmarks.efficacy._queueing import Front, Plan, Results, Step, exponential, lognormal, plan, serve

__all__ = [
    "BACK",
    "FROM",
    "FULL",
    "GRID",
    "LOADS",
    "SHARE",
    "SLOWER",
    "WARM",
    "Cell",
    "Figures",
    "Make",
    "Reference",
    "Verdict",
    "drawn",
    "figures",
    "judged",
    "reference",
    "returned",
    "served",
    "show",
]

LOADS = (0.5, 0.7, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0)
WARM = 500.0  # means before anything is measured
LEAST = 500.0  # means that are measured at least
SHARE, FULL, SLOWER, FROM = 0.98, 0.95, 1.5, 1.2
BACK = 200.0  # means: 2 s where one is 10 ms

Make = Callable[[float], Front | Queueing]


@dataclass(frozen=True)
class Cell:
    """
    A server and what it is offered.

    Attributes:
        workers: How many.

        cv: Coefficient of variation of the times of service; 1 is the exponential law, others are lognormal.

        load: Offered, as a share of what it can serve.

        mean: Of the times of service, in seconds.

        patience: Of the callers, in means.
    """

    workers: int
    cv: float
    load: float
    mean: float = 0.01
    patience: float = 10.0

    def plan(self, until: float, seed: int, step: Step | None = None) -> Plan:
        """Draw its calls until a time, in seconds."""
        law = exponential(self.mean) if self.cv == 1 else lognormal(self.mean, self.cv)
        return plan(self.workers, self.mean, law, self.load, until, seed, self.patience, step)

    def __str__(self) -> str:
        """Return it in a few words."""
        law = "exponential" if self.cv == 1 else f"lognormal CV {self.cv:.2g}"
        return f"c={self.workers} {law} load {self.load:.3g}"


GRID = tuple(Cell(workers, cv, load) for workers in (4, 10, 50) for cv in (1.0, 2.0) for load in LOADS)


@dataclass(frozen=True)
class Figures:
    """
    What came of a cell.

    Attributes:
        goodput: As a share of what the workers can serve.

        p99: Of the calls that were served, in means.
    """

    goodput: float
    p99: float


def figures(make: Make, cell: Cell, calls: int, seed: int) -> Figures:
    """
    Put a front before a cell.

    Args:
        make: Makes it, for a mean time of service in seconds.

        cell: The cell.

        calls: That can be served while it is measured.

        seed: Of the calls.
    """
    begin, end = _measured(cell, calls)
    beyond = end + 2 * cell.patience * cell.mean  # so that the last calls are measured under load too
    results = served(make(cell.mean), _planned(cell, beyond, seed))
    return Figures(results.goodput(begin, end), results.quantile(0.99, begin, end) / cell.mean)


def served(front: Front | Queueing, plan: Plan) -> Results:
    """Let a front serve a plan."""
    return front.serve(plan) if isinstance(front, Queueing) else serve(front, plan)


def _measured(cell: Cell, calls: int) -> tuple[float, float]:
    means = max(LEAST, calls / (cell.workers * min(cell.load, 1.0)))
    return WARM * cell.mean, (WARM + means) * cell.mean


@lru_cache(2)
def _planned(cell: Cell, end: float, seed: int) -> Plan:
    return cell.plan(end, seed)


@dataclass(frozen=True)
class Reference:
    """
    What the baselines make of a cell.

    Attributes:
        figures: By name.

        p99: Of the unguarded workers at a load of 0.7, in means.
    """

    figures: Mapping[str, Figures]
    p99: float

    @property
    def best(self) -> str:
        """The one with the most goodput."""
        return max(self.figures, key=lambda name: self.figures[name].goodput)


@lru_cache(512)
def reference(cell: Cell, calls: int, seed: int) -> Reference:
    """Run all baselines in a cell; the arguments are those of `figures`."""
    all_of_them = {name: figures(make, cell, calls, seed) for name, make in BASELINES.items()}
    return Reference(all_of_them, _normal(replace(cell, load=0.7), calls, seed))


@lru_cache(128)
def _normal(cell: Cell, calls: int, seed: int) -> float:
    return figures(lambda _: Unbounded(), cell, calls, seed).p99


@dataclass(frozen=True)
class Verdict:
    """
    What a front made of a cell, and which musts it missed.

    Attributes:
        figures: Its figures.

        of_best: Its goodput by that of the best baseline.

        of_full: Its goodput by min(load, 1).

        slower: Its p99 by that of the unguarded workers at 0.7.

        load: Of the cell.

        reachable: Whether the best baseline has 0.95 of min(load, 1) itself.
    """

    figures: Figures
    of_best: float
    of_full: float
    slower: float
    load: float
    reachable: bool

    @property
    def missed(self) -> str:
        """The musts missed, "" if none: B(est baseline), F(ull; in brackets: no baseline has it either), P(99)."""
        full = ("F" if self.reachable else "(F)") if self.of_full < FULL else ""
        slow = self.load >= FROM and self.slower > SLOWER
        return ("B" if self.of_best < SHARE else "") + full + ("P" if slow else "")


def judged(make: Make, cell: Cell, calls: int = 50_000, seed: int = 1) -> Verdict:
    """Hold a front against the baselines; the arguments are those of `figures`."""
    base, seen, full = reference(cell, calls, seed), figures(make, cell, calls, seed), min(cell.load, 1.0)
    best = base.figures[base.best].goodput
    return Verdict(seen, seen.goodput / best, seen.goodput / full, seen.p99 / base.p99, cell.load, best >= FULL * full)


def returned(make: Make, cell: Cell, seed: int = 1, steps: int = 10, times: float = 10.0) -> float:
    """
    Return when a front is back after a step in which all work takes longer, in means after its end; infinite: not.

    A step lasts for 300 means and there are 700 between two; back is the first 50 means in which, over all steps,
    0.95 of the goodput is reached that the front has before a step (at most: of min(load, 1)).

    Args:
        make: As for `figures`.

        cell: The cell.

        seed: Of the calls.

        steps: To average over, each in a run of its own.

        times: How many times as long.
    """
    before, after = [], []
    for index in range(steps):
        begin, slot = WARM * cell.mean, 50 * cell.mean
        step = Step(begin, begin + 300 * cell.mean, times)
        results = served(make(cell.mean), cell.plan(step.end + 700 * cell.mean, seed + index, step))
        before.append(results.goodput(begin - 4 * slot, begin - results.plan.patience))
        after.append([results.goodput(step.end + n * slot, step.end + (n + 1) * slot) for n in range(13)])
    enough = FULL * min(statistics.mean(before), cell.load, 1.0)
    slots = (n for n in range(13) if statistics.mean(run[n] for run in after) >= enough)
    return 50.0 * next(slots, math.inf)


def drawn(number: int, seed: int) -> Iterator[Cell]:
    """
    Draw cells that nobody tuned to.

    Args:
        number: How many.

        seed: Of the cells.
    """
    draw = random.Random(seed)

    def between(low: float, high: float) -> float:
        return math.exp(draw.uniform(math.log(low), math.log(high)))

    for _ in range(number):
        yield Cell(round(between(1, 200)), between(0.3, 4), between(0.3, 4), between(1e-4, 30), between(5, 20))


def show(makes: Mapping[str, Make], cells: Sequence[Cell] = GRID, calls: int = 20_000, seed: int = 1) -> None:
    """
    Print a line for each cell: the best baseline, and what each front made of it, with the musts missed.

    Args:
        makes: By name.

        cells: The cells.

        calls: As for `figures`; 50,000 for a figure that counts.

        seed: Of the calls.
    """
    for cell in cells:
        base = reference(cell, calls, seed)
        best = base.figures[base.best]
        line = f"{cell!s:34} {base.best:22} {best.goodput:.3f} p99 {best.p99:5.1f} (<={SLOWER * base.p99:5.1f})"
        for name, make in makes.items():
            seen = judged(make, cell, calls, seed)
            line += f" | {name} {seen.figures.goodput:.3f} p99 {seen.figures.p99:5.1f} {seen.missed:4}"
        print(line, flush=True)
