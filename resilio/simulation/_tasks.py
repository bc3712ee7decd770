"""Tasks of one load, from arrival through their calls to their fate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import TYPE_CHECKING, Any

from resilio._native.simulation import EventLoop, Request, Source
from resilio.errors import RejectedError

if TYPE_CHECKING:
    from resilio.simulation._book import Book
    from resilio.simulation._scenario import Load, Scenario

__all__ = ["Send", "Tasks"]

Send = Callable[..., Coroutine[Any, Any, None]]
"""Function of a request that makes a call, or an attempt: then also of the replica that a client chose."""


class Tasks(Source):
    """
    All tasks of one load.

    Args:
        scenario: The scenario.

        load: The load.

        loop: The loop that the simulation runs in.

        book: The counts of the run.

        sends: For each client, the function that makes a call.

        times: Arrival times of tasks, in seconds since the run began.

        random: Source of random numbers for the tasks' owners.
    """

    def __init__(
        self,
        scenario: Scenario,
        load: Load,
        loop: EventLoop,
        book: Book,
        sends: list[Send],
        times: Iterator[float],
        random: Random,
    ) -> None:
        patience_ns = 0 if scenario.patience is None else round(scenario.patience * 1e9)
        super().__init__(loop, book, times, scenario.duration, patience_ns)
        self._load = load
        self._book = book
        self._counts = book.by_load[load.name]
        self._sends = sends
        self._uniform = random.random
        self._deadline_ns = round(scenario.deadline * 1e9)
        self._shards = scenario.server.replicas
        self._over = False

    def finish(self) -> None:
        """Count the tasks that have not ended, and end them."""
        self._over = True
        for task in list(self.under_way.values()):
            task.cancel()

    def count_unstarted(self) -> None:
        """Count tasks that had arrived but not begun when the run stopped; all others count themselves."""
        for _ in self.under_way:
            self._book.ended(self._counts, self.loop.now, "unfinished")

    def begin(self, number: int) -> Coroutine[Any, Any, None]:
        """Return the coroutine of a new task, with a random user, client and tenant."""
        load, clients = self._load, len(self._sends)
        key = number if load.users is None else int(self._uniform() * load.users)
        client = 0 if clients == 1 else key % clients if load.users is not None else int(self._uniform() * clients)
        tenant = None if load.tenants is None else f"{load.name}-{int(self._uniform() * load.tenants)}"
        return self._run(number, key, tenant, self._sends[client])

    async def _run(self, number: int, key: int, tenant: str | None, send: Send) -> None:
        load, book, born_ns = self._load, self._book, self.loop.now
        deadline_ns, shard = born_ns + self._deadline_ns, key % self._shards
        try:
            for call in range(load.calls):
                book.requests += 1
                await send(Request(load.name, number, call, key, deadline_ns, shard, tenant, load.priority))
        except asyncio.CancelledError:
            book.ended(self._counts, born_ns, "unfinished" if self._over else "gave_up")
        except RejectedError as rejection:
            book.rejected(rejection.policy, rejection.reason)
            book.ended(self._counts, born_ns, "rejected")
        except Exception as error:  # noqa: BLE001 - user-defined policies may raise anything, which fails the task
            book.failures[type(error).__name__] += 1
            book.ended(self._counts, born_ns, "failed")
        else:
            book.answered(self._counts, born_ns, self.loop.now)
        finally:
            del self.under_way[number]
