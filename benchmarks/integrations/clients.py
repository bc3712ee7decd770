"""
`python -m benchmarks.integrations.clients`: what a guarded transport takes of a client's throughput, on loopback.

A server in a process of its own answers 1 KB as fast as it can. Clients alike, with a bare transport, with one that
does nothing but send, and under guard, take turns in slices of few requests, so that what disturbs the machine disturbs
all. Of each pair of neighbouring slices two ratios are taken: requests in a second, and processor time of the client
for each request, which other processes disturb less. The figures are medians over the pairs, with the limits of 95 %
from resampling them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.integrations._pairs import AGAIN, EMPTY, Pairs, Slice, lost, rows
from benchmarks.integrations._serving import serving
from benchmarks.micro._results import Row, Skip

__all__ = ["main", "throughput"]

CLIENTS = ("httpx2", "httpx", "requests")
GUARDS = (AGAIN, EMPTY, "breaker", "standard")
"""What the report has."""
BARE = "bare"
LEAST = 20
"""Pairs that are measured however long they take."""
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n" + b"x" * 1024


class _Answering(asyncio.Protocol):
    """Answers each request, of which it looks at the end only."""

    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(ANSWER)


@dataclass(frozen=True)
class Load:
    """How much is measured of a client and a policy: so many pairs of slices, or those that fit into a time."""

    pairs: int = 300
    seconds: float = math.inf
    requests: int = 40
    at_once: int = 8

    def turns(self) -> Iterator[int]:
        """Count the pairs."""
        until = time.monotonic() + self.seconds
        for at in range(self.pairs):
            if at >= LEAST and time.monotonic() > until:
                return
            yield at


def _failed(response: Any) -> bool:
    return bool(response.status_code >= 500)


def _policies() -> dict[str, Callable[[], Any]]:
    from resilio import bulkhead, circuit_breaker, pipeline, standard

    return {
        AGAIN: lambda: None,
        EMPTY: lambda: None,
        "breaker": lambda: circuit_breaker(failed_if=_failed),
        "breaker and bulkhead": lambda: pipeline(circuit_breaker(failed_if=_failed), bulkhead(100)),
        "standard": lambda: standard(f"standard {time.monotonic_ns()}", on="http"),
    }


# ---- async clients ---------------------------------------------------------------------------------------------------


async def _slice(client: Any, url: str, requests: int, at_once: int) -> Slice:
    left = iter(range(requests))

    async def work() -> None:
        for _ in left:
            await client.get(url)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return Slice(requests / (time.perf_counter() - began), (time.process_time() - cpu) / requests * 1e6)


async def _async_slices(name: str, guards: Sequence[str], url: str, load: Load) -> dict[str, list[Slice]]:
    from resilio.integrations.httpx import AsyncTransport

    module = importlib.import_module(name)
    policies = _policies()

    class Empty(module.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._inner = module.AsyncHTTPTransport()

        async def handle_async_request(self, request: Any) -> Any:
            return await self._inner.handle_async_request(request)

        async def aclose(self) -> None:
            await self._inner.aclose()

    def transport(guard: str) -> Any:
        if guard == EMPTY:
            return Empty()
        inner, policy = module.AsyncHTTPTransport(), policies[guard]() if guard != BARE else None
        return inner if policy is None else AsyncTransport(policy, inner)

    clients = {guard: module.AsyncClient(transport=transport(guard)) for guard in (BARE, *guards)}
    found: dict[str, list[Slice]] = {guard: [] for guard in clients}
    try:
        for client in (*clients.values(),) * 3:
            await _slice(client, url, load.requests, load.at_once)
        gc.collect()
        gc.freeze()
        for at in load.turns():
            for guard in clients if at % 2 else reversed(clients):
                found[guard].append(await _slice(clients[guard], url, load.requests, load.at_once))
    finally:
        for client in clients.values():
            await client.aclose()
    return found


# ---- requests --------------------------------------------------------------------------------------------------------


def _sync_slice(session: Any, url: str, requests: int) -> Slice:
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(requests):
        session.get(url)
    return Slice(requests / (time.perf_counter() - began), (time.process_time() - cpu) / requests * 1e6)


def _sync_slices(guards: Sequence[str], url: str, load: Load) -> dict[str, list[Slice]]:
    import requests

    from resilio.integrations.requests import Adapter

    policies = _policies()

    class Empty(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            return super().send(*args, **options)

    def adapter(guard: str) -> Any:
        if guard == EMPTY:
            return Empty()
        policy = policies[guard]() if guard != BARE else None
        return requests.adapters.HTTPAdapter() if policy is None else Adapter(policy)

    sessions = {guard: requests.Session() for guard in (BARE, *guards)}
    found: dict[str, list[Slice]] = {guard: [] for guard in sessions}
    for guard, session in sessions.items():
        session.trust_env = False
        session.mount("http://", adapter(guard))
    for session in (*sessions.values(),) * 3:
        _sync_slice(session, url, load.requests)
    for at in load.turns():
        for guard in sessions if at % 2 else reversed(sessions):
            found[guard].append(_sync_slice(sessions[guard], url, load.requests))
    for session in sessions.values():
        session.close()
    return found


def _pairs(name: str, guards: Sequence[str], url: str, load: Load) -> dict[str, Pairs]:
    """Return the slices of each guard, each with that of the bare client beside it."""
    if name == "requests":
        found = _sync_slices(guards, url, load)
    else:
        found = asyncio.run(_async_slices(name, guards, url, load))
    return {guard: list(zip(found[BARE], found[guard], strict=True)) for guard in guards}


def throughput(seconds: float) -> list[Row | Skip]:
    """
    Return what a breaker and a standard stack take of each client's throughput, and what chance does.

    Args:
        seconds: That all of it may take.
    """
    found: list[Row | Skip] = []
    load = Load(pairs=1000, seconds=seconds / len(CLIENTS) * 0.9)
    with serving(_Answering) as url:
        for name in CLIENTS:
            if importlib.util.find_spec(name) is None:
                found.append(Skip(name, "not installed"))
                continue
            try:
                guarded = _pairs(name, GUARDS, url, load)
            except Exception as error:  # noqa: BLE001  (of a busy machine a timeout of the stack, say)
                found.append(Skip(name, f"raised {type(error).__name__}: {error}"))
                continue
            limits = {"breaker": f"throughput_{name}", "standard": f"throughput_{name}_standard"}
            found += rows(name, guarded, beside_empty=limits)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations.clients", description=__doc__)
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=CLIENTS)
    parser.add_argument("--policies", nargs="+", choices=list(_policies()), default=list(_policies()))
    parser.add_argument("--pairs", type=int, default=300, help="pairs of slices of each client and policy")
    parser.add_argument("--requests", type=int, default=40, help="requests in a slice")
    parser.add_argument("--at-once", type=int, default=8, help="requests at a time, of async clients")
    options = parser.parse_args(arguments)
    load = Load(options.pairs, requests=options.requests, at_once=options.at_once)
    version = sys.version.split(maxsplit=1)[0]
    print(f"Python {version}; {options.pairs} pairs of {load.requests} requests, {load.at_once} at a time\n")
    print("| client | policy | bare, requests/s | bare, CPU us a request | guarded, throughput | guarded, CPU time |")
    print("| --- | --- | --- | --- | --- | --- |")
    with serving(_Answering) as url:
        for name in options.clients:
            for policy, pairs in _pairs(name, options.policies, url, load).items():
                cells = [
                    f"{name} {importlib.import_module(name).__version__}",
                    policy,
                    f"{statistics.median(bare.per_second for bare, _ in pairs):.0f}",
                    f"{statistics.median(bare.cpu_us for bare, _ in pairs):.1f}",
                    lost([guarded.per_second / bare.per_second for bare, guarded in pairs]),
                    lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs]),
                ]
                print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
