"""An asyncio loop that a test moves on step by step, with the clock of resilio as its time."""

from __future__ import annotations

import asyncio
from typing import Any

from resilio._native import clock

__all__ = ["StepLoop"]

STEPS = 8
"""Passes of the loop after which everything that a single change causes has happened."""


class StepLoop(asyncio.SelectorEventLoop):
    """Does nothing by itself: `spin` lets it run what is ready, `advance` moves the time."""

    def __init__(self) -> None:
        super().__init__()
        clock.set_virtual(1_000_000_000)

    def time(self) -> float:
        return clock.now_ns() * 1e-9

    def spin(self) -> None:
        for _ in range(STEPS):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, ns: int) -> None:
        clock.set_virtual(clock.now_ns() + ns)
        self.spin()

    def start(self, awaitable: Any) -> asyncio.Future[Any]:
        """Make a task and let it run until it waits."""

        async def wait() -> Any:
            return await awaitable

        task = self.create_task(wait())
        self.spin()
        return task

    def end(self) -> None:
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.spin()
        self.close()
        clock.clear_virtual()
