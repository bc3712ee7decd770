"""Runs one stack in one cell, on virtual time and with the real policies, and says what came of the calls."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.efficacy.untuned._cell import Call, Cell, Send, Stack
from benchmarks.efficacy.untuned._stacks import OURS, STACKS, stacks_of
from resilio import deadline
from resilio.testing import seeded, virtual_time

__all__ = ["Figures", "Run", "compared", "run"]

_PEAK = 0.1  # seconds


@dataclass(frozen=True)
class Figures:
    """
    What a stack achieved in a cell.

    Attributes:
        calls: That were counted: calls, or tasks where they count as a whole.

        answered: The share of them that was answered in time.

        sent: Requests for each call.

        p99: Of the time to an answer, late ones included, in seconds; nan: there was none.

        peak: Requests a second in the worst tenth of a second of all.
    """

    calls: int
    answered: float
    sent: float
    p99: float
    peak: float

    def as_json(self) -> dict[str, float | None]:
        """Return the fields, rounded, None for what there is not."""
        return {key: None if math.isnan(value) else round(value, 6) for key, value in asdict(self).items()}


class Run:
    """
    One run of one stack in one cell, in a running event loop.

    Args:
        cell: Which one.

        stack: Makes the clients' way to send, or the server's.

        ours: Whether it is the library's, which may know the callers' patience.

        seed: Of the arrivals, the world and the stack.
    """

    def __init__(self, cell: Cell, stack: Stack, ours: bool, seed: int) -> None:
        self.cell, self.ours, self.draw = cell, ours, random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        fresh = iter(range(seed * 1000, 1 << 62))

        def wrap(send: Send) -> Send:
            return stack(send, cell, next(fresh))

        self.peaks: dict[int, int] = {}
        world = cell.world(draw=random.Random(seed + 1_000_003), wrap=wrap, count=self.count)
        entry = world.entry()
        self.clients = [wrap(entry) for _ in range(cell.clients)]
        self.numbers = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.counted: list[tuple[Call, ...]] = []
        self.took: dict[Call, float] = {}

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self.loop.time() - self.begin

    def count(self, call: Call) -> None:
        """Take note of a request that leaves."""
        call.sent += 1
        slot = int(self.now / _PEAK)
        self.peaks[slot] = self.peaks.get(slot, 0) + 1

    async def go(self) -> Figures:
        """Make the calls, and return what came of them."""
        load = self.cell.load
        if load.pause is None:
            for at in load.arrivals(self.draw):
                await asyncio.sleep(self.begin + at - self.loop.time())
                self._begin()
        else:
            while self.now < load.seconds:
                await asyncio.wait(self._begin())
                await asyncio.sleep(load.pause)
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=self.cell.patience * 1.5)
        return self._figures()

    def _begin(self) -> list[asyncio.Task[Any]]:
        load, tasks = self.cell.load, []
        calls = []
        for _ in range(load.size):
            call = Call(self.numbers, load.kind(self.draw), self.now)
            wait = self.draw.uniform(0.0, load.spread) if load.spread else 0.0
            client = (
                self.draw.choice(self.clients) if load.size == 1 else self.clients[self.numbers % len(self.clients)]
            )
            self.numbers += 1
            calls.append(call)
            tasks.append(self.loop.create_task(self._call(client, call, wait)))
        if self.now >= self.cell.since:
            self.counted += [tuple(calls)] if load.whole else [(call,) for call in calls]
        self.tasks.update(tasks)
        for task in tasks:
            task.add_done_callback(self.tasks.discard)
        return tasks

    def _patience(self) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(self.cell.patience) if self.cell.leaves else nullcontext()

    async def _call(self, client: Send, call: Call, wait: float) -> None:
        if wait:
            await asyncio.sleep(wait)
        call.at = self.now
        try:
            with deadline(self.cell.patience) if self.ours and self.cell.told else nullcontext():
                async with self._patience():
                    await client(call)
        except Exception:  # noqa: BLE001 - of a peer, of the world, or a rejection
            return
        self.took[call] = self.now - call.at

    def _figures(self) -> Figures:
        cell, took = self.cell, self.took
        tasks = [calls for calls in self.counted if cell.kind is None or calls[0].kind == cell.kind]
        ends = [max(took.get(call, math.inf) for call in calls) for calls in tasks]
        answers = sorted(end for end in ends if end < math.inf)
        in_time = sum(end <= cell.patience for end in answers)
        calls = sum(map(len, tasks))
        sent = sum(call.sent for task in tasks for call in task)
        p99 = answers[math.ceil(0.99 * len(answers)) - 1] if answers else math.nan
        peak = max(self.peaks.values(), default=0) / _PEAK
        return Figures(len(tasks), in_time / max(1, len(tasks)), sent / max(1, calls), p99, peak)


async def _go(cell: Cell, name: str, seed: int) -> Figures:
    return await Run(cell, STACKS[name], name in OURS, seed).go()


def run(cell: Cell, name: str, seed: int = 1) -> Figures:
    """
    Put one stack through one cell.

    Args:
        cell: Which one.

        name: Of the stack, one of `STACKS`.

        seed: Of the arrivals, the world and the stack; all stacks meet the same arrivals.
    """
    with seeded(seed), virtual_time() as vt:
        return vt.run(_go, cell, name, seed)


def compared(cell: Cell, seed: int = 1) -> dict[str, Figures]:
    """Put all stacks of a cell through it; the arguments are those of `run`."""
    return {name: run(cell, name, seed) for name in stacks_of(cell)}
