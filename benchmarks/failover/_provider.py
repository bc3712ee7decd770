"""
A provider of models on loopback whose faults are scripted: OpenAI's and Anthropic's formats, whole or streamed.

It serves sockets by itself, because no server of a framework resets a connection before the status, stalls a stream
or leaves out the end of a chunked body. All its time is the event loop's, so it also runs in virtual time.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import anyio
import attrs

from benchmarks.failover._faults import HEALTHY, Reply, Script, always
from benchmarks.failover._wire import ANSWER, WIRES, Wire

__all__ = ["Provider", "Request"]

_GARBAGE = b'data: {"choices": [{"delta": {"content": \n\n'


@attrs.define
class Request:
    """
    One request that arrived.

    Attributes:
        at: Seconds since the provider began.

        endpoint: The first part of the path.

        model: That the request names.

        size: Characters of its messages.

        reply: How it was treated.

        left: Whether the client left before the reply was over.
    """

    at: float
    endpoint: str
    model: str
    size: int
    reply: Reply
    left: bool = False


class _Asked(NamedTuple):
    """A request as it was sent."""

    wire: Wire
    endpoint: str
    body: dict[str, Any]

    @property
    def model(self) -> str:
        """The model that it names."""
        return str(self.body["model"])

    @property
    def size(self) -> int:
        """Characters of its messages."""
        return len(json.dumps(self.body["messages"]))

    @property
    def is_prefilled(self) -> bool:
        """Whether it ends with the beginning of an answer."""
        return bool(self.body["messages"][-1]["role"] == "assistant")


class _Connection:
    """A client's connection: requests in, pieces of answers out."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._got = b""

    async def read(self) -> tuple[str, bytes] | None:
        """Return the path and the body of the next request; None if the client has left."""
        while (at := self._got.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                return None
        first, *lines = self._got[:at].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        end = at + 4 + int(headers.get("content-length", 0))
        while len(self._got) < end:
            if not await self._more():
                return None
        body, self._got = self._got[at + 4 : end], self._got[end:]
        return first.split(" ")[1], body

    async def _more(self) -> bool:
        await anyio.wait_readable(self._socket)
        got = self._socket.recv(65_536)
        self._got += got
        return bool(got)

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def chunk(self, data: bytes) -> None:
        """Send a chunk of a body; an empty one ends it."""
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def silence(self, seconds: float) -> None:
        """Send nothing for a time; raise if the client leaves."""
        with anyio.move_on_after(seconds):
            while await self._more():
                pass
            raise ConnectionResetError

    def reset(self) -> None:
        """Let the end of this connection be a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Provider:
    """
    The provider; `serving` is its context manager.

    Args:
        scripts: The script of each endpoint, by its name.
    """

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.requests: list[Request] = []
        self._scripts = dict(scripts)
        self._numbers: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._began = 0.0

    def url(self, endpoint: str) -> str:
        """
        Return the address of an endpoint, without `/v1`.

        Args:
            endpoint: Its name.
        """
        return f"{self._url}/{endpoint}"

    def heal(self) -> None:
        """Let all endpoints be healthy from now on."""
        self._scripts = dict.fromkeys(self._scripts, always(HEALTHY))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Provider]:
        """Serve until the block ends, in the event loop that entered it; the scenario's time begins now."""
        self._began = anyio.current_time()
        self._listener.setblocking(False)
        with closing(self._listener):
            async with anyio.create_task_group() as group:
                group.start_soon(self._accept, group)
                yield self
                group.cancel_scope.cancel()

    async def _accept(self, group: Any) -> None:
        while True:
            await anyio.wait_readable(self._listener)
            with suppress(BlockingIOError):
                group.start_soon(self._serve, self._listener.accept()[0])

    async def _serve(self, sock: socket.socket) -> None:
        connection = _Connection(sock)
        with closing(sock), suppress(ConnectionError):
            while (got := await connection.read()) is not None:
                _, endpoint, path = got[0].split("/", 2)
                wire = next(wire for wire in WIRES.values() if wire.path == f"/{path}")
                if not await self._answer(connection, _Asked(wire, endpoint, json.loads(got[1]))):
                    return

    async def _answer(self, connection: _Connection, asked: _Asked) -> bool:
        """Answer a request; return whether the connection stays."""
        at = anyio.current_time() - self._began
        self._numbers[asked.endpoint] += 1
        reply = self._scripts[asked.endpoint](self._numbers[asked.endpoint], at)
        if asked.is_prefilled and not reply.prefill:
            reply = attrs.evolve(reply, status=400, code="invalid_prefill")
        request = Request(at, asked.endpoint, asked.model, asked.size, reply)
        self.requests.append(request)
        try:
            return await _give(connection, asked, reply)
        except ConnectionError:
            request.left = True
            raise


async def _give(connection: _Connection, asked: _Asked, reply: Reply) -> bool:
    if reply.status == 0:
        connection.reset()
        return False
    if reply.silence:
        await connection.silence(reply.silence)
        return False
    if reply.status >= 400:
        headers = {} if reply.retry_after is None else {"retry-after": f"{reply.retry_after:g}"}
        body = json.dumps(asked.wire.error(reply.status, reply.code)).encode()
        await connection.send(_head(reply.status, {**headers, "content-length": str(len(body))}) + body)
        return True
    give = _stream if asked.body.get("stream") else _whole
    return await give(connection, asked, reply)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    given = {"content-type": "application/json", **headers}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _whole(connection: _Connection, asked: _Asked, reply: Reply) -> bool:
    body = json.dumps(asked.wire.whole(asked.model, asked.size)).encode()
    if reply.garbage is not None:
        body = body[: len(body) // 2] + b'"'
    await connection.send(_head(200, {"content-length": str(len(body))}))
    if reply.first:
        await connection.silence(reply.first)
    if reply.tokens is None:
        await connection.send(body)
        return True
    await connection.send(body[: len(body) * reply.tokens // len(ANSWER.split())])
    await connection.silence(reply.stall)
    return False


async def _stream(connection: _Connection, asked: _Asked, reply: Reply) -> bool:
    await connection.send(_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))
    if reply.first:
        await connection.silence(reply.first)
    for event in asked.wire.opening(asked.model, asked.size):
        await connection.chunk(event)
    for number, event in enumerate(asked.wire.tokens(asked.model)):
        if number == reply.tokens:
            await connection.silence(reply.stall)
            return False
        if number == reply.garbage:
            await connection.chunk(_GARBAGE)
        await connection.chunk(event)
        await anyio.sleep(reply.pace)
    for event in asked.wire.closing(asked.model, asked.size, ended=reply.ended):
        await connection.chunk(event)
    await connection.chunk(b"")
    return True
