"""Clients: processes with policies of their own, on hosts that share some, and the deaths of processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import resilio
from resilio import registry
from resilio._native.simulation import EventLoop, Request
from resilio.simulation._hosts import Host, Place
from resilio.simulation._work import ClientKilled

if TYPE_CHECKING:
    from resilio._context.priority import PriorityClass
    from resilio.simulation._scenario import Scenario
    from resilio.simulation._stores import SimulatedStore
    from resilio.simulation._tasks import Send

__all__ = ["FOUND_DEAD", "Clients"]

FOUND_DEAD = 1.0
"""Seconds until the other processes of a host have freed what a dead one held: they look once a second."""

Guard = Callable[[int, Place, "Send"], "Send"]


class Clients:
    """
    All clients of one run.

    Args:
        scenario: The scenario, with the number of clients and of those on one host.

        store: The store of their fleet.

        guard: Makes the policies of the client with this index at its place, and puts them around a function.

        send: Makes one attempt.

        mortal: Whether processes may be killed, which costs each call some time.
    """

    def __init__(
        self,
        scenario: Scenario,
        store: SimulatedStore,
        guard: Guard,
        send: Send,
        *,
        mortal: bool,
    ) -> None:
        number, per_host = scenario.clients, scenario.clients_per_host
        self._hosts = [Host() for _ in range(-(-number // per_host))]
        self._per_host = per_host
        self._are_processes = per_host > 1 or scenario.store is not None
        self._store = store
        self._guard = guard
        self._send = send
        self._loop = store.loop
        self._deaths = [0] * number
        self._processes: list[_Process] = []
        self._dead: list[_Process] = []
        self._lists: list[tuple[str | None, list[Send]]] = []
        if mortal:
            self._processes = [self._process(client) for client in range(number)]
            self._sends: list[Send] = [process.call for process in self._processes]
        else:
            self._sends = [self._guarded(client, self._start(client), send) for client in range(number)]

    def _host(self, client: int) -> Host:
        return self._hosts[client // self._per_host]

    def _start(self, client: int) -> Place:
        return self._host(client).start(self._store, client)

    def _guarded(self, client: int, place: Place, send: Send) -> Send:
        """Make the policies of one process; names are its own if clients are processes."""
        with place.here(), registry.isolated() if self._are_processes else nullcontext():
            return self._guard(client, place, send)

    def _process(self, client: int) -> _Process:
        host, place = self._host(client), self._start(client)
        return _Process(
            self._loop, self._send, partial(self._guarded, client, place), place.die, partial(host.bury, place)
        )

    def sends(self, priority: str | None) -> list[Send]:
        """Return for each client the function that makes a call of this priority; deaths change the list in place."""
        sends: list[Send] = []
        self._lists.append((priority, sends))
        self._fill(priority, sends)
        return sends

    def _fill(self, priority: str | None, sends: list[Send]) -> None:
        found = [self._sends[client] for client in map(self._in_place_of, range(len(self._sends)))]
        around = None if priority is None else resilio.priority(cast("PriorityClass", priority))
        sends[:] = found if around is None else [around(send) for send in found]

    def _in_place_of(self, client: int) -> int:
        """Return the client that takes the tasks of this one: the next living one, of the same host if there is one."""
        if not self._deaths[client]:
            return client
        first = client - client % self._per_host
        number = len(self._deaths)
        host = range(first, min(first + self._per_host, number))
        for other in chain(range(client, host.stop), host, range(host.stop, number), range(first)):
            if not self._deaths[other]:
                return other
        return client

    def kill(self, client: int) -> None:
        """Kill a process; the calls that it makes end, and what they hold of the host's is free a second later."""
        self._deaths[client] += 1
        if self._deaths[client] == 1:
            self._processes[client].die()
            self._dead.append(self._processes[client])
            self._refill()

    def restart(self, client: int) -> None:
        """Start a killed process anew, unless it is to be dead for longer."""
        self._deaths[client] -= 1
        if self._deaths[client] == 0:
            self._processes[client] = self._process(client)
            self._sends[client] = self._processes[client].call
            self._refill()

    def close(self) -> None:
        """Let the calls of dead processes end."""
        for process in self._dead:
            process.find()

    def _refill(self) -> None:
        for priority, sends in self._lists:
            self._fill(priority, sends)


class _Process:
    """
    One process, from its start to its death.

    A call of a dead process does nothing more. What it holds of policies that its host shares stays held, until the
    others have found the process dead.
    """

    def __init__(
        self,
        loop: EventLoop,
        send: Send,
        guard: Callable[[Send], Send],
        die: Callable[[], None],
        bury: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._send = send
        self._die = die
        self._bury = bury
        self._guarded = guard(self._attempt)
        self._is_alive = True
        self._is_found = False
        self._calls: dict[asyncio.Task[Any], None] = {}
        self._held: list[asyncio.Future[None]] = []

    async def call(self, request: Request) -> None:
        """Make a call; a dead process makes none."""
        if not self._is_alive:
            raise ClientKilled("the process that makes the call is dead")
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._calls[task] = None
        try:
            await self._guarded(request)
        except asyncio.CancelledError:
            if self._is_alive:
                raise
            raise ClientKilled("the process was killed during the call") from None
        finally:
            del self._calls[task]

    async def _attempt(self, request: Request, number: int | None = None) -> None:
        try:
            if self._is_alive:
                await self._send(request, number)
                return
        except (Exception, asyncio.CancelledError):
            if self._is_alive:
                raise
        await self._hold()
        raise asyncio.CancelledError

    async def _hold(self) -> None:
        while not self._is_found:
            found = self._loop.create_future()
            self._held.append(found)
            with suppress(asyncio.CancelledError):  # a timeout of the dead process does not happen
                await found

    def die(self) -> None:
        """End all calls: callers and callee see closed connections."""
        self._is_alive = False
        self._die()
        for task in list(self._calls):
            task.cancel()
        self._loop.at(self._loop.now + round(FOUND_DEAD * 1e9), self.find)

    def find(self) -> None:
        """Free what the process still holds: others have found it dead."""
        if not self._is_found:
            self._bury()
        self._is_found = True
        for found in self._held:
            if not found.done():
                found.set_result(None)
