"""
`python -m benchmarks.integrations.aio_clients`: what a policy takes of the throughput of aiohttp and grpc.aio.

A server in a process of its own answers small requests. The client makes them one after the other, or several at once,
in slices that take turns between a bare client and a guarded one, so that what disturbs the machine disturbs both. Of
each pair of neighbouring slices two ratios are taken: requests in a second, and processor time of the client for each
request, which other processes disturb less. The figures are medians over the pairs, with the limits of 95 % from
resampling them.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import math
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import resilio
from benchmarks.integrations._pairs import AGAIN, EMPTY, Pairs, Slice, lost, rows
from benchmarks.micro._results import Row, Skip

__all__ = ["main", "throughput"]

BODY = b"x" * 512
LEAST = 20
"""Slices of each client that are measured however long they take."""
Ask = Callable[[], Awaitable[object]]


def gates() -> Any:
    """A breaker and a bulkhead."""
    return resilio.pipeline(resilio.circuit_breaker(), resilio.bulkhead(1000))


def stack(name: str, on: Any) -> Any:
    """The recommended stack without what makes more requests (hedges), or cuts what a busy machine makes late."""
    return resilio.standard(name, on=on, timeout=None)


# ---- what is measured ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def aiohttp_clients(port: int) -> AsyncIterator[dict[str, Ask]]:
    """A bare session, one with a middleware that does nothing, and guarded ones."""
    import aiohttp

    from resilio.integrations.aiohttp import middleware

    async def nothing(request: Any, handler: Any) -> Any:
        return await handler(request)

    def asks(session: Any) -> Ask:
        async def ask() -> None:
            async with session.get(url) as response:
                await response.read()

        return ask

    url = f"http://127.0.0.1:{port}/"
    guards = {
        "bare": (),
        AGAIN: (),
        "middleware": (nothing,),
        "gates": (middleware(gates()),),
        "standard": (middleware(stack("bench-aiohttp", "http")),),
    }
    sessions = {name: aiohttp.ClientSession(middlewares=guard) for name, guard in guards.items()}
    try:
        yield {name: asks(session) for name, session in sessions.items()}
    finally:
        for session in sessions.values():
            await session.close()


@asynccontextmanager
async def grpc_clients(port: int) -> AsyncIterator[dict[str, Ask]]:
    """A bare channel, one with interceptors that do nothing, and guarded ones."""
    from grpc import aio

    from resilio.integrations.grpc import interceptors, preset

    class Nothing(aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
            return await continuation(client_call_details, request)

    guards: dict[str, Any] = {
        "bare": [],
        AGAIN: [],
        "interceptor": [Nothing()],
        "gates": interceptors(gates()),
        "standard": interceptors(stack("bench-grpc", preset)),
    }
    channels = {name: aio.insecure_channel(f"127.0.0.1:{port}", interceptors=guard) for name, guard in guards.items()}
    try:
        methods = {name: channel.unary_unary("/s/echo") for name, channel in channels.items()}
        yield {name: lambda method=method: method(BODY) for name, method in methods.items()}  # type: ignore[misc]
    finally:
        for channel in channels.values():
            await channel.close()


CLIENTS: dict[str, tuple[Any, str]] = {"aiohttp": (aiohttp_clients, "http"), "grpc": (grpc_clients, "grpc")}


# ---- the servers -----------------------------------------------------------------------------------------------------


async def serve_http(listener: socket.socket) -> None:
    """Answer each request with a small body, without looking at it."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer * data.count(b"\r\n\r\n"))

    server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
    await server.serve_forever()


async def serve_grpc(listener: socket.socket) -> None:
    """Echo."""
    import grpc
    from grpc import aio

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:  # noqa: ARG002
            return grpc.unary_unary_rpc_method_handler(echo)

    async def echo(request: bytes, context: Any) -> bytes:  # noqa: ARG001
        return request

    port = listener.getsockname()[1]
    listener.close()
    server = aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextmanager
def serving(kind: str) -> Iterator[int]:
    """Serve in a process of its own; gives the port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port: int = listener.getsockname()[1]
    child = os.fork()
    if child == 0:
        asyncio.run({"http": serve_http, "grpc": serve_grpc}[kind](listener))
        os._exit(0)
    listener.close()
    try:
        yield port
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# ---- measuring -------------------------------------------------------------------------------------------------------


async def measure(ask: Ask, requests: int, at_once: int) -> Slice:
    """Ask so often."""
    left = iter(range(requests))

    async def worker() -> None:
        for _ in left:
            await ask()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return Slice(requests / (time.perf_counter() - began), (time.process_time() - used) / requests * 1e6)


async def rounds(
    kind: str, count: int, requests: int, at_once: int, *, only: Collection[str] = (), seconds: float = math.inf
) -> dict[str, list[Slice]]:
    """
    Measure all clients of a kind in turns, in changing order.

    Args:
        kind: "aiohttp" or "grpc".

        count: Slices of each client.

        requests: Those of a slice.

        at_once: Those under way at a time.

        only: Names of clients; none: all.

        seconds: After which no further slices begin, once there are `LEAST`.
    """
    clients, server = CLIENTS[kind]
    found: dict[str, list[Slice]] = {}
    with serving(server) as port:
        await asyncio.sleep(1.0)
        async with clients(port) as asks:
            ends = time.perf_counter() + seconds
            for at in range(count + 1):
                if at > LEAST and time.perf_counter() > ends:
                    break
                names = [name for name in asks if not only or name in only]
                for name in names if at % 2 else reversed(names):
                    slice_ = await measure(asks[name], requests, at_once)
                    if at:  # the first round warms up
                        found.setdefault(name, []).append(slice_)
    return found


def pairs_of(found: dict[str, list[Slice]], name: str) -> Pairs:
    """Return the slices of one client, each with that of the bare one beside it."""
    return list(zip(found["bare"], found[name], strict=True))


REPORTED = {
    "aiohttp": (
        "aiohttp",
        {
            AGAIN: AGAIN,
            "breaker and bulkhead": "gates",
            "standard": "standard",
            EMPTY: "middleware",
        },
    ),
    "grpc": (
        "grpc",
        {
            AGAIN: AGAIN,
            "breaker and bulkhead": "gates",
            "standard": "standard",
            EMPTY: "interceptor",
        },
    ),
}
"""By client: the module that it is imported as, and which guards the report shows under which names."""


def throughput(seconds: float) -> list[Row | Skip]:
    """
    Return the rows of the report, measured within about so many seconds in all.

    Args:
        seconds: That all of it may take.
    """
    made: list[Row | Skip] = []
    for kind, (module, guards) in REPORTED.items():
        if importlib.util.find_spec(module) is None:
            made.append(Skip(kind, "not installed"))
            continue
        share = seconds / len(REPORTED) - 1.5
        only = ("bare", *guards.values())
        found = asyncio.run(rounds(kind, 1000, 100, 8, only=only, seconds=share))
        limits: dict[str, str | None] = {
            "breaker and bulkhead": f"throughput_{kind}",
            "standard": f"throughput_{kind}_standard",
        }
        pairs = {shown: pairs_of(found, name) for shown, name in guards.items()}
        made += rows(kind, pairs, beside_empty=limits)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integrations.aio_clients", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=list(CLIENTS), default=list(CLIENTS))
    parser.add_argument("--rounds", type=int, default=40, help="slices of each client")
    parser.add_argument("--requests", type=int, default=1000, help="requests of a slice")
    parser.add_argument("--at-once", type=int, default=8, help="requests under way at a time")
    options = parser.parse_args(arguments)
    version = sys.version.split(maxsplit=1)[0]
    print(f"Python {version}; {options.rounds} slices of {options.requests} requests, {options.at_once} at a time\n")
    print("| client | guard | requests/s | CPU us a request | throughput | CPU time |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in options.kinds:
        found = asyncio.run(rounds(kind, options.rounds, options.requests, options.at_once))
        for name, slices in found.items():
            pairs = pairs_of(found, name)
            rates = lost([guarded.per_second / bare.per_second for bare, guarded in pairs])
            cpu = lost([guarded.cpu_us / bare.cpu_us for bare, guarded in pairs])
            rate, used = (statistics.median(values) for values in zip(*slices, strict=True))
            print(f"| {kind} | {name} | {rate:.0f} | {used:.1f} | {rates} | {cpu} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
