"""
`python -m benchmarks.efficacy.hedge_load`: R5, when hedging hurts, and that it does not.

A copy of a call is more work for servers that may be the slow ones because they have too much of it. So: ten servers
with queues, at loads from 0.3 to 0.95; four laws of service; the slowness the server's (each copy takes a time of its
own) or the job's (both take the same); a server that stops working on what nobody waits for, or one that does not. The
hedge is the real library's, with its defaults: at the p95 of what it has measured, at most 5 % more calls.

A figure is p99 with hedges over p99 without, for the same calls at the same times; 0.5 is half of it. A run begins with
20 s at a load of 0.3, which are not looked at.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.efficacy import _results
from benchmarks.efficacy._farm import Dispatch, Farm, Job
from benchmarks.efficacy._laws import MIXTURE, Law, exponential, lognormal, mixed
from resilio import hedge
from resilio.testing import virtual_time

__all__ = [
    "DISPATCHES",
    "KINDS",
    "LAWS",
    "LOADS",
    "Cell",
    "Run",
    "cells",
    "losing",
    "losing_table",
    "main",
    "run",
    "table",
]

MEAN = 0.01  # seconds, of every law
WARM, WARM_LOAD = 20.0, 0.3
NEAR, MORE_CALLS, MORE_SEEDS = 0.03, 5, 8  # a cell so near to its bound, or beyond, is measured again by so many more
SERVERS = 10
LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DISPATCHES: tuple[Dispatch, ...] = ("random", "shortest of two", "central queue")
LAWS = (
    exponential("exponential", 1.0),
    mixed("exponential, 1 % of it 20 times as long", exponential("", 1.0), 0.01, 20.0),
    MIXTURE,
    lognormal("lognormal, sigma 0.54", 19.0, 0.54),
)

Send = Callable[[Job], Awaitable[None]]


@dataclass(frozen=True)
class Run:
    """
    One run.

    Attributes:
        p99: Seconds, after the warm-up.

        extra: Copies in addition, a call.

        most_extra: The most that `extra` was at any time.

        hedged_at: When each copy was started, in seconds.
    """

    p99: float
    extra: float
    most_extra: float
    hedged_at: list[float]


class _Calls:
    """The calls of a run: the same ones for the same seed, whatever becomes of them."""

    def __init__(self, law: Law, load: float, seed: int, same_size: Callable[[float], bool]) -> None:
        self._scale = MEAN / law.mean
        self._law = law
        self._load = load
        self._arrivals, self._sizes, self._picks = (random.Random(7919 * seed + part) for part in range(3))
        self._same_size = same_size

    def gap(self, now: float) -> float:
        """Return the seconds to the next call."""
        load = WARM_LOAD if now < WARM else self._load
        return self._arrivals.expovariate(load * SERVERS / MEAN)

    def job(self, farm: Farm, now: float) -> Job:
        """Return what the next call asks for."""
        sizes = [self._law.draw(self._sizes) * self._scale for _ in range(2)]
        if self._same_size(now):
            sizes[1] = sizes[0]
        return Job(sizes, farm.picks(self._picks))


async def _run(calls: _Calls, farm: Farm, send: Send, count: int) -> Run:
    loop = asyncio.get_running_loop()
    begin = now = loop.time()
    times: list[float] = []

    async def call(job: Job, since: float) -> None:
        await send(job)
        if since - begin >= WARM:
            times.append(loop.time() - since)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            now += calls.gap(now - begin)
            await asyncio.sleep(now - loop.time())
            tasks.create_task(call(calls.job(farm, now - begin), loop.time()))
    times.sort()
    p99 = times[math.ceil(0.99 * len(times)) - 1]
    return Run(p99, farm.copies / farm.calls, farm.most_extra, [at - begin for at in farm.copied_at])


def run(
    law: Law,
    dispatch: Dispatch,
    load: float,
    *,
    calls: int,
    seed: int = 1,
    hedged: bool = True,
    stops: bool = True,
    same_size: Callable[[float], bool] = lambda now: False,  # noqa: ARG005
) -> Run:
    """
    Return one run of many calls.

    Args:
        law: Of the times of service; it is scaled to a mean of 10 ms.

        dispatch: How calls get to servers.

        load: After the warm-up, 1 is what the servers can do.

        calls: How many, those of the warm-up included.

        seed: Of this run.

        hedged: Whether the library hedges.

        stops: Whether a server stops working on a copy that has been cancelled.

        same_size: Says of a time in seconds whether copies of calls that come then are as large as the first.
    """

    async def inside() -> Run:
        farm = Farm(dispatch, stops, SERVERS)
        send = hedge(idempotent=True)(farm.send) if hedged else farm.send
        return await _run(_Calls(law, load, seed, same_size), farm, send, calls)

    with virtual_time() as vt:
        return vt.run(inside)


@dataclass(frozen=True)
class Cell:
    """
    A law, a dispatch and a load.

    Attributes:
        ratio: p99 with hedges over p99 without.

        extra: Copies in addition, a call.

        most_extra: The most that it was at any time.
    """

    ratio: float
    extra: float
    most_extra: float

    def most(self, other: Cell) -> Cell:
        """Return the most of each figure."""
        return Cell(max(self.ratio, other.ratio), max(self.extra, other.extra), max(self.most_extra, other.most_extra))


KINDS = {  # whether the server stops, whether copies are of the same size, and the most that the ratio may be
    "server's, stopped": (True, False, 1.05),
    "job's, stopped": (True, True, 1.15),
    "server's, not": (False, False, 1.4),
    "job's, not": (False, True, 1.4),
}


def cells(
    law: Law, dispatch: Dispatch, load: float, calls: int, seeds: int, kinds: Iterable[str] = tuple(KINDS)
) -> dict[str, Cell]:
    """
    Return a cell of each of these kinds, the mean of several runs.

    Args:
        law: As in `run`.

        dispatch: As in `run`.

        load: As in `run`.

        calls: Of each run.

        seeds: Runs of each cell.

        kinds: Of `KINDS`.
    """

    def runs(**options: Any) -> list[Run]:
        return [run(law, dispatch, load, calls=calls, seed=seed + 1, **options) for seed in range(seeds)]

    plain = sum(one.p99 for one in runs(hedged=False))
    found = {}
    for kind in kinds:
        stops, same, _ = KINDS[kind]
        seen = runs(stops=stops, same_size=lambda _, same=same: same)
        ratio = sum(one.p99 for one in seen) / plain
        found[kind] = Cell(ratio, sum(one.extra for one in seen) / seeds, max(one.most_extra for one in seen))
    return found


def _cells(place: tuple[int, Dispatch, float, int, int]) -> dict[str, Cell]:
    law, dispatch, load, calls, seeds = place  # a law holds functions: its number goes to another process
    found = cells(LAWS[law], dispatch, load, calls, seeds)
    close = [kind for kind, cell in found.items() if cell.ratio > KINDS[kind][2] - NEAR]
    if close:
        found |= cells(LAWS[law], dispatch, load, MORE_CALLS * calls, max(MORE_SEEDS, seeds), close)
    return found


def table(calls: int, seeds: int, jobs: int = 1) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows of R5: one for each law, dispatch and kind, and at the end the most of each kind.

    Args:
        calls: Of each run.

        seeds: Runs of each cell.

        jobs: Processes.
    """
    rows = [(law, dispatch) for law in range(len(LAWS)) for dispatch in DISPATCHES]
    places = [(*row, load, calls, seeds) for row in rows for load in LOADS]
    most = dict.fromkeys(KINDS, Cell(0.0, 0.0, 0.0))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(_cells, places)
        for law, dispatch in rows:
            columns = [next(found) for _ in LOADS]
            for kind in KINDS:
                for column in columns:
                    most[kind] = most[kind].most(column[kind])
                yield LAWS[law].name, dispatch, kind, *(f"{column[kind].ratio:.2f}" for column in columns)
    for kind, one in most.items():
        figures = f"{one.ratio:.3f}", f"<= {KINDS[kind][2]:g}", f"{one.extra:.2%}", f"{one.most_extra:.2%}"
        yield "**the most of all: p99, must, extra load, at any time**", "", kind, *figures, *[""] * (len(LOADS) - 4)


def losing(law: Law, load: float, *, seed: int = 1, stops: bool = True) -> tuple[float, float, float]:
    """
    Return what becomes of hedges when they stop to win: copies a call before, seconds until they are few, and then.

    In a central queue copies have sizes of their own for 60 s, and are of the size of the first for the next 30: from
    then on a copy cannot be first. Few means less than 1 % of the calls of a second; the last figure is the share of
    copies from 10 s after that point on.

    Args:
        law: As in `run`.

        load: As in `run`.

        seed: Of the run.

        stops: As in `run`.
    """
    turn, end = 60.0, 90.0
    rate = load * SERVERS / MEAN
    calls = round(WARM * WARM_LOAD * SERVERS / MEAN + (end - WARM) * rate)
    seen = run(
        law, "central queue", load, calls=calls, seed=seed, stops=stops, same_size=lambda now: now >= turn
    ).hedged_at
    before = sum(WARM + 10.0 <= at < turn for at in seen) / ((turn - WARM - 10.0) * rate)
    after = sum(turn + 10.0 <= at < end for at in seen) / ((end - turn - 10.0) * rate)
    seconds = 0.0
    while sum(turn + seconds <= at < turn + seconds + 1.0 for at in seen) >= 0.01 * rate:
        seconds += 0.1
    return before, seconds, after


def losing_table(seeds: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows of what becomes of hedges that stop to win.

    Args:
        seeds: Runs of each row.
    """
    for law in LAWS[:3]:
        for load in (0.3, 0.6, 0.8):
            runs = [losing(law, load, seed=seed + 1) for seed in range(seeds)]
            before, seconds, after = (max(figures) for figures in zip(*runs, strict=True))
            yield law.name, f"{load:g}", f"{before:.2%}", f"{seconds:.1f} s", f"{after:.2%}"


_ABOUT = """p99 with hedges over p99 without, for the same calls; {calls:,} calls a run, {seeds} run(s) a cell.
"server's": each copy takes a time of its own, "job's": both take the same. "stopped": a server stops working on a
copy that lost, "not": it does not. Extra load counts copies a call over the run, and the most that it was from the
start to any time. A cell within {near:g} of what it must be, or beyond, is the mean of {more_seeds} runs of
{more_calls:,} calls: p99 of a law of which 1 % takes 20 times as long is the edge of a cliff, and chance weighs more in
one run of 30,000 than hedges do (shortest of two, load 0.5, the job's, stopped: from 1.00 to 1.23 in eight of them,
from 1.08 to 1.18 in eight of 150,000). In 3 runs of 60,000 the cells of exponential jobs at random are 0.95 at a
load of 0.5 and 0.99 at 0.6, where the rule that hedges rest while the median is twice what it was at best leaves
little to gain."""
_ABOUT_LOSING = """Copies a call while they win; seconds from the point where copies have the size of the first, so that
they cannot win, to the first second in which they are less than 1 %; and their share from 10 s after that point on.
Central queue, the most of {seeds} run(s); must be: within 10 s, below 1 %."""


def main() -> None:
    """Print the tables."""
    parser = _results.command("When hedging hurts.")
    parser.add_argument("--calls", type=int, default=30_000, help="of each run (30,000)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each cell (1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    options = parser.parse_args()
    loads = [f"{load:g}" for load in LOADS]
    for title, about, header, rows in (
        (
            "R5 when hedges stop to win",
            _ABOUT_LOSING,
            ("law", "load", "before", "few after", "then"),
            losing_table(options.seeds),
        ),
        (
            "R5 when hedging hurts",
            _ABOUT,
            ("law", "dispatch", "slowness, loser", *loads),
            table(options.calls, options.seeds, options.jobs),
        ),
    ):
        more = {"near": NEAR, "more_calls": MORE_CALLS * options.calls, "more_seeds": max(MORE_SEEDS, options.seeds)}
        told = " ".join(about.format(calls=options.calls, seeds=options.seeds, **more).split())
        print(f"## {title}\n\n{_results.section(told, header, ())}", flush=True)
        seen = []
        for row in rows:
            seen.append(row)
            print("| " + " | ".join(row) + " |", flush=True)
        if options.record:
            _results.record(title, _results.section(told, header, seen))


if __name__ == "__main__":
    main()
