"""
The services that have the dependencies: one client, one connection pool, and the function that asks.

The bare and the guarded service are the same code. The guarded one puts resilio's decorators on that function, and
nothing else; where the bare one tries again, it does so as people do who have no library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import httpx2

from examples.demo._acts import HOME, Act
from resilio import (
    Endpoint,
    RejectedError,
    RetryBudget,
    bulkhead,
    circuit_breaker,
    hedge,
    pipeline,
    pool,
    retry,
    timeout,
)

__all__ = ["BULKHEAD", "Catalog", "Orders", "Search", "Service", "Shop", "service_of"]

BULKHEAD = 20  # of the client's connections: those that the flaky dependency may hold
ATTEMPTS = 3  # of an order, or of a call to the catalog
IN_FLIGHT = 100  # calls that may go elsewhere at once: about as many as wait in vain where a region has gone
FAILED = (TimeoutError, httpx2.HTTPError)

Fetch = Callable[[str], Awaitable[httpx2.Response]]


class Service(Protocol):
    """What serves the requests of an act."""

    async def handle(self, dependency: str, request: str) -> str:
        """
        Serve one request.

        Args:
            dependency: Which it needs.

            request: Its identity.

        Returns:
            The outcome: "ok", "rejected" by resilio, "no connection" in the pool, "timeout", "unavailable" (the
            dependency said 503) or "broken" (the connection was).
        """
        ...


async def _get(client: httpx2.AsyncClient, port: int, request: str) -> httpx2.Response:
    response = await client.get(f"http://127.0.0.1:{port}/{request}")
    response.raise_for_status()
    return response


class Shop:
    """
    A service with a page of recommendations (the flaky dependency) and a checkout (the healthy one).

    Args:
        client: That all its calls share.

        ports: Where the dependencies are, on 127.0.0.1.

        guarded: Whether a breaker, with its defaults, and a bulkhead stand before the flaky one.

        retries: How often a failed call is tried again, at once, >= 0.
    """

    def __init__(self, client: httpx2.AsyncClient, ports: Mapping[str, int], *, guarded: bool, retries: int) -> None:
        self._attempts = 1 + retries
        self._fetches: dict[str, Fetch] = {name: _fetch(client, port) for name, port in ports.items()}
        if guarded:
            bare = self._fetches["recommendations"]
            self._fetches["recommendations"] = circuit_breaker("recommendations")(
                bulkhead(BULKHEAD, name="recommendations pool")(bare)
            )

    async def handle(self, dependency: str, request: str) -> str:
        """Call the dependency, and again at once if that fails."""
        outcome = "broken"
        for attempt in range(self._attempts):
            try:
                await self._fetches[dependency](f"{request}-{attempt}")
            except RejectedError:
                return "rejected" if attempt == 0 else outcome
            except httpx2.HTTPError as error:
                outcome = _outcome(error)
            else:
                return "ok"
        return outcome


def _fetch(client: httpx2.AsyncClient, port: int) -> Fetch:
    async def fetch(request: str) -> httpx2.Response:
        return await _get(client, port, request)

    return fetch


class Search:
    """
    A service that asks one of several replicas, in turns.

    Args:
        client: That all its calls share.

        ports: Where the replicas are, on 127.0.0.1.

        guarded: Whether what takes long is asked of the next replica too.
    """

    def __init__(self, client: httpx2.AsyncClient, ports: Mapping[str, int], *, guarded: bool) -> None:
        self._client = client
        self._ports = list(ports.values())
        self._ask: Fetch = hedge(idempotent=True, to=self._next, name="search")(self._own) if guarded else self._own

    async def _own(self, request: str, further: int = 0) -> httpx2.Response:
        number = int(request.rpartition("-")[2]) + further
        return await _get(self._client, self._ports[number % len(self._ports)], f"{request}-{further}")

    async def _next(self, request: str) -> httpx2.Response:
        return await self._own(request, 1)

    async def handle(self, dependency: str, request: str) -> str:  # noqa: ARG002
        """Ask the replica whose turn it is."""
        try:
            await self._ask(request)
        except httpx2.HTTPError as error:
            return _outcome(error)
        return "ok"


class Orders:
    """
    A service that tries three times: bare at once, guarded within a budget and behind a breaker.

    Args:
        client: That all its calls share.

        port: Where the dependency is, on 127.0.0.1.

        guarded: Whether resilio does it.

        patience: Seconds that an attempt may take.
    """

    def __init__(self, client: httpx2.AsyncClient, port: int, *, guarded: bool, patience: float) -> None:
        self._once = _fetch(client, port)
        self._patience = patience
        self._ask: Fetch = self._naive
        if guarded:
            again = retry(on=FAILED, attempts=ATTEMPTS, budget=RetryBudget(), name="orders")
            self._ask = again(circuit_breaker("orders breaker")(timeout(patience, name="orders timeout")(self._once)))

    async def _naive(self, request: str) -> httpx2.Response:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._one(request)
            except FAILED:
                pass
        return await self._one(request)

    async def _one(self, request: str) -> httpx2.Response:
        async with asyncio.timeout(self._patience):
            return await self._once(request)

    async def handle(self, dependency: str, request: str) -> str:  # noqa: ARG002
        """Send the order, up to three times."""
        try:
            await self._ask(request)
        except RejectedError:
            return "rejected"
        except TimeoutError:
            return "timeout"
        except httpx2.HTTPError as error:
            return _outcome(error)
        return "ok"


class Catalog:
    """
    A service with replicas of its dependency in two regions: bare it takes them in turns, guarded it has a pool.

    Args:
        client: That all its calls share.

        ports: Where the replicas are, on 127.0.0.1; the name of each begins with its region.

        guarded: Whether resilio chooses.
    """

    def __init__(self, client: httpx2.AsyncClient, ports: Mapping[str, int], *, guarded: bool) -> None:
        self._client = client
        self._ports = list(ports.values())
        self._ask: Fetch = self._in_turns
        if guarded:
            replicas = [Endpoint(str(port), name=name, zone=name.split()[0]) for name, port in ports.items()]
            elsewhere = retry(on=FAILED, attempts=ATTEMPTS, budget=RetryBudget(cap=IN_FLIGHT, initial=IN_FLIGHT))
            self._ask = pipeline(elsewhere, pool("catalog", *replicas, zone=HOME), name="catalog calls")(self._at)

    async def _at(self, request: str, endpoint: Endpoint | None = None) -> httpx2.Response:
        assert endpoint is not None  # the pool's
        return await _get(self._client, int(endpoint.target), request)

    async def _in_turns(self, request: str) -> httpx2.Response:
        turn = int(request.rpartition("-")[2])
        try:
            return await self._one(request, turn)
        except FAILED:
            return await self._one(request, turn + 1)

    async def _one(self, request: str, turn: int) -> httpx2.Response:
        return await _get(self._client, self._ports[turn % len(self._ports)], request)

    async def handle(self, dependency: str, request: str) -> str:  # noqa: ARG002
        """Ask a replica, and another one if that fails."""
        try:
            await self._ask(request)
        except RejectedError:
            return "rejected"
        except httpx2.HTTPError as error:
            return _outcome(error)
        return "ok"


def service_of(
    act: Act, client: httpx2.AsyncClient, ports: Mapping[str, int], *, guarded: bool, retries: int
) -> Service:
    """
    Make the service of an act.

    Args:
        act: Which.

        client: For all calls.

        ports: Of the act's servers, by their names.

        guarded: Whether resilio's decorators are on it.

        retries: Of `Shop`.
    """
    if act.name == "outage":
        return Shop(client, ports, guarded=guarded, retries=retries)
    if act.name == "spike":
        return Search(client, ports, guarded=guarded)
    if act.name == "region":
        return Catalog(client, ports, guarded=guarded)
    return Orders(client, ports["orders"], guarded=guarded, patience=act.timeout)


def _outcome(error: httpx2.HTTPError) -> str:
    if isinstance(error, httpx2.PoolTimeout):
        return "no connection"
    if isinstance(error, httpx2.TimeoutException):
        return "timeout"
    return "unavailable" if isinstance(error, httpx2.HTTPStatusError) else "broken"
