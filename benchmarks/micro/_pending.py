"""
What a timeout costs when very many are pending: to arm and disarm one more.

Tasks that wait behind timeouts of one minute to an hour sit in an event loop of their own, one loop with few of them
and one with very many. In turns, a call behind a timeout of half a minute suspends once in either loop; what it takes
beyond the same call without a timeout is the arming and the disarming. A bare `asyncio.timeout` beside it shows what
the loop's own heap does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import cycle, islice, repeat
from time import thread_time_ns
from typing import Any, Self, TypeAlias

from benchmarks.micro._attempt_work import public, suspending
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._harness import quiet_collector, summary
from benchmarks.micro._results import Row, Skip, Table
from benchmarks.micro._targets import MANY
from benchmarks.micro._work import fresh_name
from resilio._native import clock

__all__ = ["FEW", "SUBJECTS", "Population", "pending_table"]

FEW = 10
_CALLS = 2000
_SECONDS = 30.0
_PENDING_SECONDS = tuple(60.0 * minutes for minutes in range(1, 61))
_Function: TypeAlias = Callable[[], Awaitable[Any]]
_Guard: TypeAlias = Callable[[_Function, float], _Function]


def _resilio(function: _Function, seconds: float) -> _Function:
    guarded: _Function = public("timeout")(seconds, name=fresh_name())(function)
    return guarded


def _asyncio(function: _Function, seconds: float) -> _Function:
    async def timed() -> Any:
        async with asyncio.timeout(seconds):
            return await function()

    return timed


SUBJECTS: dict[str, _Guard] = {"resilio timeout": _resilio, "asyncio.timeout": _asyncio}


class Population:
    """An event loop in which *pending* tasks wait behind a timeout, from its entry to its exit."""

    def __init__(self, guard: _Guard, pending: int) -> None:
        self._runner = asyncio.Runner()
        self._guard = guard
        self._pending = pending
        self._tasks: list[asyncio.Task[None]] = []
        self._bare = suspending()
        self._guarded = guard(suspending(), _SECONDS)

    def __enter__(self) -> Self:
        self._runner.run(self._settle())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()  # cancels the tasks
        self._tasks.clear()

    @property
    def waiting(self) -> int:
        """How many tasks are pending."""
        return sum(not task.done() for task in self._tasks)

    def arm_and_disarm_ns(self, calls: int) -> float:
        """Return what a timeout adds to a call that suspends once, while the others are pending."""
        return self._runner.run(self._added(calls))

    async def _settle(self) -> None:
        waiting = cycle([self._guard(_wait, seconds) for seconds in _PENDING_SECONDS])
        self._tasks = [asyncio.ensure_future(wait()) for wait in islice(waiting, self._pending)]
        await asyncio.sleep(0)

    async def _added(self, calls: int) -> float:
        bare = await _time(self._bare, calls)
        return (await _time(self._guarded, calls) - bare) / calls


async def _wait() -> None:
    await asyncio.get_running_loop().create_future()


async def _time(function: _Function, calls: int) -> int:
    steps = repeat(None, calls)
    start = thread_time_ns()
    for _ in steps:
        await function()
    return thread_time_ns() - start


def pending_table(many: int, rounds: int) -> Table:
    """Return what arming and disarming a timeout takes with few and with *many* pending, in turns."""
    made = [row for subject, guard in SUBJECTS.items() for row in _made(subject, guard, many, rounds)]
    about = (
        "Nanoseconds that a timeout adds to a call that suspends once, while tasks are pending behind others of a "
        f"minute to an hour; {rounds} rounds of {_CALLS:,} calls."
    )
    rows = tuple(row for row in made if isinstance(row, Row))
    return Table(
        "pending", "Many pending timeouts", about, rows, tuple(skip for skip in made if isinstance(skip, Skip))
    )


def _made(subject: str, guard: _Guard, many: int, rounds: int) -> list[Row] | list[Skip]:
    try:
        return _rows(subject, many, *_measure(guard, many, rounds))
    except Unavailable as reason:
        return [Skip(subject, str(reason))]


def _measure(guard: _Guard, many: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the figures of every round, with few and with *many* pending."""
    few_ns, many_ns = [], []
    with Population(guard, FEW) as small, Population(guard, many) as large, quiet_collector():
        for population in (small, large):
            population.arm_and_disarm_ns(_CALLS)  # warms it up
        for _ in range(rounds):
            few_ns.append(small.arm_and_disarm_ns(_CALLS))
            many_ns.append(large.arm_and_disarm_ns(_CALLS))
    return few_ns, many_ns


def _rows(subject: str, many: int, few_ns: list[float], many_ns: list[float]) -> list[Row]:
    own = subject.startswith("resilio")
    read = clock.source() if own else "loop.time"
    rows = []
    for pending, series in ((FEW, few_ns), (many, many_ns)):
        figure = summary(series)
        rows.append(Row(f"{subject}, {pending:,} pending", figure.value, "ns", figure.low, figure.high, clock=read))
    ratios = summary([most / few for most, few in zip(many_ns, few_ns, strict=True)])
    title, target = f"{subject}, {many:,} pending / {FEW}", "pending_timeouts" if own and many >= MANY else None
    return [*rows, Row(title, ratios.value, "x", ratios.low, ratios.high, clock=read, target=target)]
