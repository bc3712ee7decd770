"""One run of a scenario with one stack: clients, network, replicas and faults on one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, cast

from resilio._composition.pipeline import pipeline
from resilio._native.simulation import BEGIN_NS, EventLoop, Request, StandstillError
from resilio._policy.base import Policy
from resilio.simulation._book import Book
from resilio.simulation._clients import Clients
from resilio.simulation._faults import Delay, Fault, Kill, Surge
from resilio.simulation._hosts import Host, Place
from resilio.simulation._place import ClientPlace, made_at
from resilio.simulation._replica import Replica
from resilio.simulation._route import at_choice, router
from resilio.simulation._scenario import Load, Policies, Scenario, Stack
from resilio.simulation._store import OF_STORE, Failover, Partition, Store
from resilio.simulation._stores import SimulatedStore
from resilio.simulation._tasks import Send, Tasks
from resilio.simulation._wire import Wire
from resilio.simulation._work import ServerDown

__all__ = ["World"]


class World:
    """
    All participants of one run.

    Args:
        scenario: The scenario.

        stack: The policies.

        seed: Seed of all random numbers; arrivals draw from a source of their own, so that stacks face the same load.
    """

    def __init__(self, scenario: Scenario, stack: Stack, seed: int) -> None:
        self.book = Book(scenario)
        self.unexpected: list[BaseException] = []
        self.loop = EventLoop(self._unexpected)
        self.replicas: list[Replica] = []
        self.loads: list[Tasks] = []
        self._scenario = scenario
        self._seed = seed
        self._wire = self._network()
        self._store = self._shared_store()
        self._add_replicas(stack)
        self._add_loads(stack)

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed}/{what}")  # noqa: S311 - repeats on purpose

    def _network(self) -> Wire | None:
        law = self._scenario.server.network
        if law is None and not any(isinstance(fault, Delay) for fault in self._scenario.faults):
            return None
        return Wire(self.loop, law, self._random("network"))

    def _shared_store(self) -> SimulatedStore:
        journal = max((each.loses for each in self._scenario.faults if isinstance(each, Failover)), default=0.0)
        record = Store() if self._scenario.store is None else self._scenario.store
        return SimulatedStore(record, self.loop, self._random("store"), journal)

    def _unexpected(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.unexpected.append(error if isinstance(error, BaseException) else RuntimeError(str(context["message"])))

    def _add_replicas(self, stack: Stack) -> None:
        server = stack.changes(self._scenario.server)
        for number in range(server.replicas):
            with Host().start().here():
                guard = _one(stack.server)
            random = self._random(f"replica {number}")
            self.replicas.append(Replica(number, server, self.loop, self._wire, self.book, random, guard))

    def _add_loads(self, stack: Stack) -> None:
        send = _sender(self.replicas, self._wire, self._scenario, self._random("route"))
        scenario, mortal = self._scenario, any(isinstance(fault, Kill) for fault in self._scenario.faults)
        guard = partial(self._guarded, stack.client)
        self._clients = Clients(scenario, self._store, guard, send, mortal=mortal)
        for load in scenario.loads:
            sends = self._clients.sends(load.priority)
            times = load.arrivals.times(self._random(f"arrivals of {load.name}"), self._surges(load))
            owners = self._random(f"owners of {load.name}")
            self.loads.append(Tasks(scenario, load, self.loop, self.book, sends, times, owners))

    def _guarded(self, policies: Policies | None, client: int, at: Place, send: Send) -> Send:
        """Make the policies of one client, and put them around its attempts."""
        scenario = self._scenario
        place = ClientPlace(scenario.server, scenario.zone_of(client), self._random(f"choices of client {client}"))
        with made_at(place):
            policy = _one(policies)
        reaching = self._partitioned(client, send)
        return reaching if policy is None else at.watched(policy(at_choice(policy, at.watched(reaching))))

    def _partitioned(self, client: int, send: Send) -> Send:
        """Return a function that makes an attempt, and fails while a partition is between the client and the server."""
        cuts = [each for each in self._scenario.faults if isinstance(each, Partition) and each.keeps(client, "server")]
        if not cuts:
            return send

        async def attempt(request: Request, number: int | None = None) -> None:
            now = self.loop.elapsed
            if any(cut.at <= now < cut.end for cut in cuts):
                raise ServerDown("a partition is between this client and the server")
            await send(request, number)

        return attempt

    def _surges(self, load: Load) -> Callable[[float], float]:
        surges = [each for each in self._scenario.faults if isinstance(each, Surge) and each.load in (None, load.name)]

        def factor(now: float) -> float:
            total = 1.0
            for surge in surges:
                if surge.at <= now < surge.end:
                    total *= surge.factor
            return total

        return factor

    def run(self, look: Callable[[], bool]) -> bool:
        """
        Run until no more tasks arrive, and then until no answer can be in time; return False if `look` stopped it.

        Args:
            look: Called now and then; returns False to stop.
        """
        for fault in self._scenario.faults:
            if not isinstance(fault, Surge):
                self.loop.at(_ns(fault.at), self._begin, fault)
                self.loop.at(_ns(fault.end), self._end, fault)
        for load in self.loads:
            load.start()
        scenario = self._scenario
        return self.loop.run(_ns(scenario.duration), look) and self.loop.run(
            _ns(scenario.duration + scenario.deadline), look
        )

    def close(self) -> None:
        """Count the tasks that have not ended, and end them."""
        self.book.trips = self._store.trips
        self._clients.close()
        for load in self.loads:
            load.finish()
        with suppress(StandstillError):  # the loop stood still before, and still does
            self.loop.run(self.loop.now, lambda: True)
        for load in self.loads:
            load.count_unstarted()

    def _begin(self, fault: Fault) -> None:
        if isinstance(fault, Delay) and self._wire is not None:
            self._wire.extra += fault.seconds
        if isinstance(fault, OF_STORE):
            self._store.begin(fault)
        for replica in self._hit(fault):
            replica.begin(fault)
        for client in self._killed(fault):
            self._clients.kill(client)

    def _end(self, fault: Fault) -> None:
        if isinstance(fault, Delay) and self._wire is not None:
            self._wire.extra -= fault.seconds
        if isinstance(fault, OF_STORE):
            self._store.end(fault)
        for replica in self._hit(fault):
            replica.end(fault)
        for client in self._killed(fault):
            self._clients.restart(client)

    def _hit(self, fault: Fault) -> list[Replica]:
        hits: Any = getattr(fault, "hits", None)
        return [] if hits is None else [replica for replica in self.replicas if hits(replica.number, replica.zone)]

    def _killed(self, fault: Fault) -> Sequence[int]:
        if not isinstance(fault, Kill):
            return ()
        return range(self._scenario.clients) if fault.clients is None else cast("tuple[int, ...]", fault.clients)


def _ns(seconds: float) -> int:
    return BEGIN_NS + round(seconds * 1e9)


def _sender(replicas: list[Replica], wire: Wire | None, scenario: Scenario, random: Random) -> Send:
    """Return the function that makes one attempt, which the clients' policies guard."""
    route = router(scenario.server.balance, replicas, random)

    async def send(request: Request, number: int | None = None) -> None:
        replica = route(request) if number is None else replicas[number]
        job = replica.attempt(request)
        try:
            await job.answer
        except asyncio.CancelledError:
            job.gone = True
            if wire is None:
                replica.give_up(job)
            else:
                wire.send(replica.give_up, job)
            raise

    return send


def _one(policies: Policies | None) -> Policy[Any] | None:
    """Make the policies of one client or replica, as a single policy."""
    made = None if policies is None else policies()
    if made is None or isinstance(made, Policy):
        return made
    return made[0] if len(made) == 1 else pipeline(*made) if made else None
