"""
What a grant costs when many wait: a bulkhead of one permit, tasks that take turns, a queue whose length stays the same.

A task is granted the permit, gives it back, which grants it to the next in the queue, and queues again. So a grant
includes what the event loop and the waiting task cost: a bare `asyncio.Semaphore` beside it shows how much that is, and
how much of the difference between a short and a long queue is the memory of the tasks falling out of the caches.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import thread_time_ns
from typing import TypeAlias

import resilio
from benchmarks.micro._harness import summary
from benchmarks.micro._results import Row, Table
from benchmarks.micro._work import fresh_name
from resilio._native import clock

__all__ = ["queue_table"]

SHORT = 10
LONG = 10_000


class _Turns:
    """Counts the turns that are taken: some until the queue is in its steady state, then those that are timed."""

    def __init__(self, untimed: int, timed: int) -> None:
        self._left = untimed + timed
        self._timed = timed
        self._started = self._ended = 0
        self.queue_is_full = asyncio.Event()

    def take(self) -> None:
        """Count one turn."""
        self._left -= 1
        if self._left == self._timed:
            self._started = thread_time_ns()
        elif self._left == 0:
            self._ended = thread_time_ns()

    @property
    def over(self) -> bool:
        """Have all turns been taken?"""
        return self._left <= 0

    @property
    def nanoseconds(self) -> float:
        """What one timed turn took."""
        return (self._ended - self._started) / self._timed


_Turn: TypeAlias = Callable[[], Awaitable[None]]


def _resilio(turns: _Turns, queued: int) -> _Turn:
    @resilio.bulkhead(1, max_queued=queued + 1, max_wait=3600.0, name=fresh_name())
    async def turn() -> None:
        turns.take()
        if not turns.queue_is_full.is_set():
            await turns.queue_is_full.wait()

    return turn


def _adaptive(turns: _Turns, queued: int) -> _Turn:
    @resilio.adaptive_limit(start=1, ceiling=1, max_queued=queued + 1, max_wait=3600.0, name=fresh_name())
    async def turn() -> None:
        turns.take()
        if not turns.queue_is_full.is_set():
            await turns.queue_is_full.wait()

    return turn


def _shedder(turns: _Turns, _queued: int) -> _Turn:
    # Its queue has room for what it can do in that time: for all, though the first call lasts until they are there.
    @resilio.load_shed(max_concurrent=1, target=1e6, name=fresh_name())
    async def turn() -> None:
        turns.take()
        if not turns.queue_is_full.is_set():
            await turns.queue_is_full.wait()

    return turn


def _semaphore(turns: _Turns, _queued: int) -> _Turn:
    semaphore = asyncio.Semaphore(1)

    async def turn() -> None:
        async with semaphore:
            turns.take()
            if not turns.queue_is_full.is_set():
                await turns.queue_is_full.wait()

    return turn


_SUBJECTS: dict[str, Callable[[_Turns, int], _Turn]] = {
    "resilio bulkhead": _resilio,
    "resilio adaptive_limit": _adaptive,
    "resilio load_shed": _shedder,
    "asyncio.Semaphore": _semaphore,
}


_TARGETS = {
    "resilio bulkhead": "queue",
    "resilio adaptive_limit": "adaptive_queue",
    "resilio load_shed": "shed_queue",
}


async def grant_ns(make: Callable[[_Turns, int], _Turn], queued: int, grants: int) -> float:
    """Return nanoseconds a grant while *queued* tasks wait."""
    turns = _Turns(queued + 1, grants)
    turn = make(turns, queued)

    async def take_turns() -> None:
        while not turns.over:
            await turn()

    async with asyncio.TaskGroup() as group:
        for _ in range(queued + 1):
            group.create_task(take_turns())
        await asyncio.sleep(0)
        turns.queue_is_full.set()
    return turns.nanoseconds


async def queue_table(rounds: int) -> Table:
    """Return what a grant costs with 10 and with 10,000 waiters, measured in turns."""
    order = [(subject, queued) for subject in _SUBJECTS for queued in (SHORT, LONG)]
    series: dict[tuple[str, int], list[float]] = {case: [] for case in order}
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for subject, queued in order:
            series[subject, queued].append(await grant_ns(_SUBJECTS[subject], queued, 2 * LONG))
    rows = [row for subject in _SUBJECTS for row in _rows(subject, series[subject, SHORT], series[subject, LONG])]
    about = (
        f"Nanoseconds a grant, the waiting task and the event loop included; {rounds} rounds of {2 * LONG:,} grants."
    )
    return Table("queue", "Bulkhead with a queue", about, tuple(rows))


def _rows(subject: str, short: list[float], long: list[float]) -> list[Row]:
    target = _TARGETS.get(subject)
    own = target is not None
    read = clock.source() if own else "-"
    ratios = summary([many / few for many, few in zip(long, short, strict=True)])
    rows = []
    for queued, series in ((SHORT, short), (LONG, long)):
        figure = summary(series)
        rows.append(Row(f"{subject}, {queued:,} queued", figure.value, "ns", figure.low, figure.high, clock=read))
    title = f"{subject}, {LONG:,} queued / {SHORT}"
    rows.append(Row(title, ratios.value, "x", ratios.low, ratios.high, clock=read, target=target))
    return rows
