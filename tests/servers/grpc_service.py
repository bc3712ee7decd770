"""A real server over loopback whose methods misbehave, without generated code: messages are bytes."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

ENOUGH = 20.0
Code = grpc.StatusCode
DETAILS = "grpc-status-details-bin"


class Service(grpc.GenericRpcHandler):
    """What each method does is said by its name; `calls` counts what has arrived."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        """Calls whose client has gone."""
        self.metadata: list[dict[str, Any]] = []
        self.remaining: list[float | None] = []
        """What the callers' deadlines leave."""
        self.methods: dict[str, Any] = {
            "aborts": grpc.unary_unary_rpc_method_handler(self.aborts),
            "dies": grpc.unary_stream_rpc_method_handler(self.dies),
            "drips": grpc.unary_stream_rpc_method_handler(self.drips),
            "echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "echoes": grpc.stream_stream_rpc_method_handler(self.echoes),
            "hangs": grpc.unary_unary_rpc_method_handler(self.hangs),
            "hangs_stream": grpc.unary_stream_rpc_method_handler(self.hangs_stream),
            "joins": grpc.stream_unary_rpc_method_handler(self.joins),
            "numbers": grpc.unary_stream_rpc_method_handler(self.numbers),
            "recovers": grpc.unary_unary_rpc_method_handler(self.recovers),
            "recovers_stream": grpc.unary_stream_rpc_method_handler(self.recovers_stream),
        }

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method.rsplit("/", 1)[1]
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        self.calls[method] += 1
        return self.methods.get(method)

    async def echo(self, request: bytes, context: Any) -> bytes:
        self.remaining.append(context.time_remaining())
        return request

    async def aborts(self, request: bytes, context: Any) -> None:
        """By the status that the request names, and after a colon the pushback, or the status in detail in hex."""
        name, _, advice = request.decode().partition(":")
        key, value = ("grpc-retry-pushback-ms", advice) if len(advice) < 20 else (DETAILS, bytes.fromhex(advice))
        trailing = ((key, value),) if advice else ()
        await context.abort(Code[name], "as asked for", trailing)

    async def hangs(self, request: bytes, context: Any) -> bytes:
        try:
            await asyncio.sleep(ENOUGH)
        except asyncio.CancelledError:
            self.left["hangs"] += 1
            raise
        return request

    async def hangs_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """After one message."""
        yield b"first"
        await self.hangs(request, context)

    async def dies(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(Code[request.decode()], "in the middle")

    async def drips(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield b"drop"
            await asyncio.sleep(0.001)

    async def numbers(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def echoes(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def joins(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def recovers(self, request: bytes, context: Any) -> bytes:
        """After as many failures as the request says."""
        if self.calls["recovers"] <= int(request):
            await context.abort(Code.UNAVAILABLE, "not yet")
        return b"well"

    async def recovers_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        if self.calls["recovers_stream"] <= int(request):
            await context.abort(Code.UNAVAILABLE, "not yet")
        yield b"well"


class Served:
    """A running server and channels to it."""

    def __init__(self, service: Service, server: Any, port: int) -> None:
        self.service = service
        self.server = server
        self.target = f"127.0.0.1:{port}"

    def channel(self, interceptors: Any = ()) -> Any:
        """A channel, to be left as a context manager; grpcio's own retries are off, so that all attempts are ours."""
        options = (("grpc.enable_retries", 0),)
        return aio.insecure_channel(self.target, interceptors=list(interceptors), options=options)

    async def until(self, true: Any) -> None:
        """Wait until something is so."""
        while not true():  # noqa: ASYNC110 - what comes is not only told by this service
            await asyncio.sleep(0.002)


async def serve(*interceptors: Any, service: Service | None = None) -> Served:
    """Start a server."""
    service = service or Service()
    server = aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return Served(service, server, port)


def ends(policy: Any) -> tuple[int, int, int]:
    """Successes, failures, ignored; nothing is held."""
    gc.collect()
    found = policy.snapshot()
    assert found.inflight == 0
    return found.successes, found.failures, found.ignored


def pairs(metadata: Any) -> dict[str, str]:
    """Metadata as a dict; older ones of grpcio are no mapping that `dict` understands."""
    return dict(list(metadata))


async def read(stream: Any) -> Any:
    """The next message, or EOF, which an intercepted stream of an older grpcio raises."""
    try:
        return await stream.read()
    except StopAsyncIteration:
        return aio.EOF
