"""
A server on loopback that fails on request: which way is said by the path, that it did is said by its counters.

    /ok?size=n  /echo  /empty  /gzip?size=n  /redirect?to=/ok  /login     what a healthy server does
    /reject                   reads the request, closes the connection without an answer
    /reject-headers           reads the request, then hangs until the client goes
    /die-mid-body?sent=n&length=m&reset=1      sends n of m bytes, then closes, or resets, the connection
    /hang-mid-body?sent=n     sends n bytes, then hangs until the client goes
    /drip?n=5&every=0.01&size=1                n chunks of so many bytes (n=0: without end), so many seconds apart
    /status/503?times=2&retry-after=1&...      that status; only for the first so many requests of this very path, if
                              `times` is given; all other parameters become headers; `retry-after=@5` is the date in 5 s
    /error-in-200             an error in the JSON of a 200
    /sse?n=5&every=0.01&ping=1&end=done|die|hang           server-sent events, with comments between them; how it ends

Another module adds its own: `server.routes["/mine"] = handler`, an `async def handler(exchange: Exchange)`; the longest
route that the path begins with is taken.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

START = 1_700_000_000.0
"""The time of day that the server's `Date` header tells."""
LONGEST_WAIT = 30.0


class Exchange:
    """One request, and what answers it."""

    def __init__(self, server: Misbehaving, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.method = self.target = self.path = ""
        self.query: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep = True

    async def read(self) -> bool:
        """Read a request; False if there are no more on this connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        parts = urlsplit(self.target)
        self.path, self.query = parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        self.body = await self._body()
        return True

    async def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            return body
        return await self.reader.readexactly(int(self.headers.get("content-length", 0)))

    async def head(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send the status and the headers; without a length the body is chunked."""
        given = {"date": formatdate(START, usegmt=True), **(headers or {})}
        if "content-length" not in given and status not in (204, 304):
            given["transfer-encoding"] = "chunked"
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        await self.raw("\r\n".join(lines).encode("latin-1"))

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send a chunk; an empty one ends the body."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def answer(self, body: bytes = b"ok", status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        given = {"content-type": "text/plain", **(headers or {})}
        if status not in (204, 304):
            given["content-length"] = str(len(body))
        await self.head(status, given)
        if self.method != "HEAD" and status not in (204, 304):
            await self.raw(body)

    async def hang(self) -> None:
        """Do nothing until the client goes."""
        self.server.count("hung", self.path)
        while await self.reader.read(4096):
            pass
        self.server.count("left", self.path)
        self.keep = False

    def cut(self, *, reset: bool = False) -> None:
        """Close the connection here and now, or reset it."""
        self.server.count("cut", self.path)
        self.keep = False
        if reset:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()

    def number(self, name: str, default: float) -> float:
        """A parameter of the path."""
        return float(self.query.get(name, default))


Handler = Callable[[Exchange], Awaitable[None]]


class Misbehaving:
    """The server, in a thread of its own; leave it as a context manager."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Handler] = dict(ROUTES)
        self.requests: Counter[str] = Counter()
        """Requests by path."""
        self.hung: Counter[str] = Counter()
        """Answers that hung, by path; `left`: those whose client has gone since; `cut`: those broken off from here."""
        self.left: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Answers sent whole."""
        self.targets: list[str] = []
        self.seen: list[dict[str, str]] = []
        """The headers of each request."""
        self.connections = 0
        self.open = 0
        """Connections now."""
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        # Accepted sockets inherit it. asyncio sets it by itself only where the listener is named a TCP socket. Without
        # it the body of each answer, which is sent after its head, waits 40 ms for a delayed acknowledgement.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="misbehaving", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()  # a loop that is stopped before it serves is never closed
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def count(self, what: str, path: str) -> None:
        """Count, and wake whoever waits for it."""
        with self._changed:
            getattr(self, what)[path] += 1
            self._changed.notify_all()

    def until(self, true: Callable[[], object]) -> None:
        """Block until something is so; what the server has counted is looked at again whenever it counts."""
        with self._changed:
            assert self._changed.wait_for(true, LONGEST_WAIT), f"it never came: {vars(self)}"

    @property
    def total(self) -> int:
        """All requests."""
        return self.requests.total()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, sock=self._listener, ssl=self._tls))
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        self._loop.remove_reader(self._listener)  # what is accepted when the server is closed is lost, its socket open
        self._settle()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        for writer in tuple(self._writers):  # of connections that have just begun, too
            writer.transport.abort()
        self._settle()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _settle(self) -> None:
        """Let what has been accepted become a connection, and what was closed be closed."""
        for _ in range(8):
            self._loop.run_until_complete(asyncio.sleep(0))

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = self._loop.create_task(self._connected(reader, writer))
        task.add_done_callback(lambda _: self._writers.discard(writer))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._moved(+1)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._moved(-1)

    def _moved(self, by: int) -> None:
        with self._changed:
            self.open += by
            self.connections += by > 0
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep = True
        while keep:
            exchange = Exchange(self, reader, writer)
            if not await exchange.read():
                return
            self.targets.append(exchange.target)
            self.seen.append(exchange.headers)
            self.count("requests", exchange.path)
            try:
                await self._handler(exchange.path)(exchange)
            except ConnectionError:
                self.count("left", exchange.path)
                raise
            keep = exchange.keep and exchange.headers.get("connection") != "close"
            if exchange.keep:
                self.count("answered", exchange.path)

    def _handler(self, path: str) -> Handler:
        found = max((route for route in self.routes if path.startswith(route)), key=len, default=None)
        return _missing if found is None else self.routes[found]


async def _missing(exchange: Exchange) -> None:
    await exchange.answer(b"no such path", 404)


async def _ok(exchange: Exchange) -> None:
    await exchange.answer(b"x" * int(exchange.number("size", 0)) or b"ok")


async def _echo(exchange: Exchange) -> None:
    said = {
        "method": exchange.method,
        "target": exchange.target,
        "headers": exchange.headers,
        "body": exchange.body.decode("latin-1"),
    }
    await exchange.answer(json.dumps(said).encode(), headers={"content-type": "application/json"})


async def _empty(exchange: Exchange) -> None:
    await exchange.answer(b"", 204)


async def _gzip(exchange: Exchange) -> None:
    body = gzip.compress(b"x" * int(exchange.number("size", 10_000)))
    await exchange.answer(body, headers={"content-encoding": "gzip"})


async def _redirect(exchange: Exchange) -> None:
    await exchange.answer(b"", 302, {"location": exchange.query.get("to", "/ok")})


async def _login(exchange: Exchange) -> None:
    known = "authorization" in exchange.headers
    await exchange.answer(b"in" if known else b"out", 200 if known else 401, {"www-authenticate": 'Basic realm="r"'})


async def _reject(exchange: Exchange) -> None:
    exchange.cut()


async def _reject_headers(exchange: Exchange) -> None:
    await exchange.hang()


async def _die_mid_body(exchange: Exchange) -> None:
    sent = int(exchange.number("sent", 10))
    await exchange.head(headers={"content-length": str(int(exchange.number("length", 100)))})
    await exchange.raw(b"x" * sent)
    exchange.cut(reset=exchange.query.get("reset") == "1")


async def _hang_mid_body(exchange: Exchange) -> None:
    await exchange.head()
    if sent := int(exchange.number("sent", 10)):
        await exchange.chunk(b"x" * sent)
    await exchange.hang()


async def _drip(exchange: Exchange) -> None:
    await exchange.head()
    left, size = int(exchange.number("n", 5)), int(exchange.number("size", 1))
    endless = left == 0
    while left or endless:
        left -= 1
        await exchange.chunk(b"x" * size)
        await asyncio.sleep(exchange.number("every", 0.01))
    await exchange.chunk(b"")


async def _status(exchange: Exchange) -> None:
    times = int(exchange.number("times", 0))
    if times and exchange.server.requests[exchange.path] > times:
        await exchange.answer()
        return
    headers = {name: _date(value) for name, value in exchange.query.items() if name != "times"}
    await exchange.answer(b"no", int(exchange.path.rsplit("/", 1)[1]), headers)


def _date(value: str) -> str:
    return formatdate(START + float(value[1:]), usegmt=True) if value.startswith("@") else value


async def _error_in_200(exchange: Exchange) -> None:
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    await exchange.answer(json.dumps(said).encode(), headers={"content-type": "application/json"})


async def _sse(exchange: Exchange) -> None:
    await exchange.head(headers={"content-type": "text/event-stream"})
    for number in range(int(exchange.number("n", 5))):
        if exchange.query.get("ping") == "1":
            await exchange.chunk(b": ping\n\n")
        await exchange.chunk(b"data: %d\n\n" % number)
        await asyncio.sleep(exchange.number("every", 0.0))
    end = exchange.query.get("end", "done")
    if end == "die":
        exchange.cut()
    elif end == "hang":
        await exchange.hang()
    else:
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.chunk(b"")


ROUTES: dict[str, Handler] = {
    "/die-mid-body": _die_mid_body,
    "/drip": _drip,
    "/echo": _echo,
    "/empty": _empty,
    "/error-in-200": _error_in_200,
    "/gzip": _gzip,
    "/hang-mid-body": _hang_mid_body,
    "/login": _login,
    "/ok": _ok,
    "/redirect": _redirect,
    "/reject": _reject,
    "/reject-headers": _reject_headers,
    "/sse": _sse,
    "/status/": _status,
}


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port that refuses connections for as long as the block lasts: it is bound, and nobody listens."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port: Any = bound.getsockname()[1]
        yield port
