"""The tasks of one load: they arrive, make their calls one after the other, and end in one way or another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import nullcontext
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import resilio
from resilio._native.simulation import BEGIN_NS
from resilio.errors import RejectedError
from resilio.simulation._work import Request

if TYPE_CHECKING:
    from resilio._native.simulation import EventLoop
    from resilio.simulation._book import Book
    from resilio.simulation._scenario import Load, Scenario

__all__ = ["Send", "Tasks"]

Send = Callable[[Request], Coroutine[Any, Any, None]]


class Tasks:
    """
    All tasks of one load.

    Args:
        scenario: What happens.

        load: Which load.

        loop: The loop that the simulation runs in.

        book: Where the fates of the tasks are counted.

        sends: For each client, what makes a call.

        times: When tasks arrive, in seconds since the run began.

        random: What to draw the tasks' owners from.
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
        self._load = load
        self._loop = loop
        self._book = book
        self._sends = sends
        self._times = times
        self._uniform = random.random
        self._end = scenario.duration
        self._deadline_ns = round(scenario.deadline * 1e9)
        self._patience_ns = None if scenario.patience is None else round(scenario.patience * 1e9)
        self._shards = scenario.server.replicas
        self._numbers = count()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._over = False

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._under_way)

    def start(self) -> None:
        """Have the first task arrive at its time, and then the others."""
        seconds = next(self._times, None)
        if seconds is not None and seconds < self._end:
            self._loop.at(BEGIN_NS + round(seconds * 1e9), self._arrive)

    def finish(self) -> None:
        """Count those that have not ended, and end them."""
        self._over = True
        for task in list(self._under_way.values()):
            task.cancel()

    def count_unstarted(self) -> None:
        """Count those that had arrived and not begun when the run was stopped; all others have counted themselves."""
        for _ in self._under_way:
            self._book.ended(self._load.name, self._loop.now, "unfinished")

    def _arrive(self) -> None:
        number = next(self._numbers)
        self._book.begun(self._loop.now)
        key, client, tenant = self._owner(number)
        task = self._loop.create_task(self._run(number, key, tenant, self._sends[client]))
        self._under_way[number] = task
        if self._patience_ns is not None:
            self._loop.at(self._loop.now + self._patience_ns, task.cancel)
        self.start()

    def _owner(self, number: int) -> tuple[int, int, str | None]:
        """Draw whose task it is: a user, who stays with a client, and a tenant."""
        load, clients = self._load, len(self._sends)
        key = number if load.users is None else int(self._uniform() * load.users)
        client = 0 if clients == 1 else key % clients if load.users is not None else int(self._uniform() * clients)
        tenant = None if load.tenants is None else f"{load.name}-{int(self._uniform() * load.tenants)}"
        return key, client, tenant

    async def _run(self, number: int, key: int, tenant: str | None, send: Send) -> None:
        load, book, born_ns = self._load, self._book, self._loop.now
        try:
            with nullcontext() if load.priority is None else resilio.priority(load.priority):
                for call in range(load.calls):
                    request = Request(load.name, number, call, key, born_ns + self._deadline_ns)
                    request.shard, request.tenant, request.priority = key % self._shards, tenant, load.priority
                    book.requests += 1
                    await send(request)
        except asyncio.CancelledError:
            book.ended(load.name, born_ns, "unfinished" if self._over else "gave_up")
        except RejectedError as refusal:
            book.refused(refusal.policy, refusal.reason)
            book.ended(load.name, born_ns, "refused")
        except Exception as error:  # noqa: BLE001 - whatever policies of a user's own raise is how the task ended
            book.ended(load.name, born_ns, "failed", type(error).__name__)
        else:
            book.answered(load.name, born_ns, self._loop.now)
        finally:
            del self._under_way[number]
