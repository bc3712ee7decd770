"""Servers that people use, in a thread, on an ephemeral port; and a client that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

__all__ = ["ASGI_SERVERS", "Raw", "asgi_server", "listening", "until", "wsgi_server"]

ASGI_SERVERS = ["uvicorn", "hypercorn", "hypercorn-trio"]


def until(condition: Callable[[], object]) -> None:
    """Wait, however long it takes, until it is true."""
    while not condition():
        time.sleep(0.001)


def listening() -> socket.socket:
    """Return a socket on an ephemeral port that connections wait at until a server accepts them."""
    # Named, or asyncio does not know it for TCP, and leaves Nagle's algorithm on.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)  # a client may connect before the server accepts
    return listener


@contextlib.contextmanager
def asgi_server(kind: str, app: Any) -> Iterator[int]:
    """Serve `app` until the block ends; gives the port."""
    library = kind.partition("-")[0]
    pytest.importorskip(library, reason=f"{library} is not installed")
    listener = listening()
    port = listener.getsockname()[1]
    run, stop = (_uvicorn if kind == "uvicorn" else _hypercorn)(kind, app, listener)
    thread = threading.Thread(target=run, name=kind)
    thread.start()
    try:
        yield port
    finally:
        stop()
        thread.join()
        listener.close()


def _uvicorn(kind: str, app: Any, listener: socket.socket) -> tuple[Callable[[], None], Callable[[], None]]:
    import uvicorn

    config = uvicorn.Config(app, log_level="critical", ws="wsproto", http="h11", lifespan="off", loop="asyncio")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    return (lambda: server.run(sockets=[listener])), stop


def _hypercorn(kind: str, app: Any, listener: socket.socket) -> tuple[Callable[[], None], Callable[[], None]]:
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1
    stopping = threading.Event()
    if kind == "hypercorn":
        from hypercorn.asyncio import serve

        async def asleep() -> None:
            while not stopping.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.01)

        return (lambda: asyncio.run(serve(app, config, shutdown_trigger=asleep))), stopping.set  # type: ignore[arg-type]

    import trio
    from hypercorn.trio import serve as serve_on_trio

    async def asleep_on_trio() -> None:
        while not stopping.is_set():  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)

    async def run() -> None:
        await serve_on_trio(app, config, shutdown_trigger=asleep_on_trio)  # type: ignore[arg-type]

    return (lambda: trio.run(run)), stopping.set


class Raw:
    """A connection on which a test says exactly what it likes."""

    def __init__(self, port: int, *, buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", port))
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def say(self, text: str | bytes) -> None:
        self.socket.sendall(text.replace("\n", "\r\n").encode() if isinstance(text, str) else text)

    def head(self) -> str:
        """Read status line and headers, in lower case."""
        while b"\r\n\r\n" not in self._read:
            data = self.socket.recv(65536)
            assert data, f"the connection was closed after {self._read!r}"
            self._read += data
        head, self._read = self._read.split(b"\r\n\r\n", 1)
        return head.decode("latin-1").lower()

    def body(self, head: str) -> bytes:
        """Read the body of a response with a length."""
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
        while len(self._read) < length:
            data = self.socket.recv(65536)
            assert data, "the connection was closed in the body"
            self._read += data
        body, self._read = self._read[:length], self._read[length:]
        return body

    def rest(self) -> bytes:
        """Read until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self._read += data
        read, self._read = self._read, b""
        return read

    def vanish(self) -> None:
        """Break the connection off, without a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


@contextlib.contextmanager
def wsgi_server(app: Any, *, kind: str = "wsgiref") -> Iterator[int]:
    """Serve a WSGI app by threads until the block ends; gives the port."""
    server = (_wsgiref if kind == "wsgiref" else _werkzeug)(app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name=kind)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _wsgiref(app: Any) -> Any:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = False
        request_queue_size = 512

        def handle_error(self, request: Any, address: Any) -> None:
            """A client that has left is no error."""

    class Quiet(ServerHandler):
        def log_exception(self, error: Any) -> None:
            """What the app raises is the test's to see."""

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing to say."""

        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.raw_requestline and self.parse_request():
                handler = Quiet(self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True)
                handler.request_handler = self  # type: ignore[attr-defined]
                handler.run(self.server.get_app())  # type: ignore[attr-defined]

    return make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Handler)


def _werkzeug(app: Any) -> Any:
    pytest.importorskip("werkzeug", reason="werkzeug is not installed")
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *args: Any, **more: Any) -> None:
            """Nothing to say."""

    return make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
