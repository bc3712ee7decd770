"""The baselines of R11 (`benchmarks.efficacy._baselines`) as a server's stack in an event loop on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from benchmarks.efficacy._baselines import BASELINES
from benchmarks.efficacy._queueing import Front, Plan
from benchmarks.efficacy.untuned._cell import Call, Cell, Send

__all__ = ["SEVEN", "fronted"]

SEVEN = ("bounded queue 100", "drop expired", "drop if < 3 means left", "LIFO", "CoDel-FB", "Gradient2", "Vegas")


class _Fronted:
    """What a front sees as its workers: it hands a call over by `send`, and the coroutine that waits goes on."""

    def __init__(self, front: Front, cell: Cell, send: Send) -> None:
        self.front, self.inner = front, send
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.arrivals: list[float] = []
        self.turns: dict[int, asyncio.Future[None]] = {}
        self.plan = Plan(cell.workers, cell.mean, cell.patience, self.arrivals, (), 1.0)
        seen_as_workers: Any = self
        front.attach(seen_as_workers)

    @property
    def now(self) -> float:
        return self.loop.time() - self.begin

    def send(self, number: int) -> None:
        self.turns[number].set_result(None)

    def at(self, when: float, callback: Callable[[], object]) -> None:
        self.loop.call_at(self.begin + when, callback)

    async def __call__(self, call: Call) -> None:
        number = len(self.arrivals)
        self.arrivals.append(self.now)
        turn = self.turns[number] = self.loop.create_future()
        self.front.arrive(number, self.now)
        await turn  # for ever, where the front drops it
        await self.inner(call)
        self.front.ended(number, self.now)


def fronted(name: str) -> Callable[[Send, Cell, int], Send]:
    """Return the stack that puts a baseline before the workers; its constants in seconds are given in means."""
    return lambda send, cell, seed: _Fronted(BASELINES[name](cell.mean), cell, send)  # noqa: ARG005
