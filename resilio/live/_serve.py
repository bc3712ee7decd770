"""Server of the page, with uvicorn: in this thread until Ctrl-C, or in a thread of its own."""

from __future__ import annotations

import errno
import importlib
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic, sleep
from typing import Any, Self

from resilio._support.extras import missing
from resilio.live._app import Live

__all__ = ["Running", "listen", "serve", "serving", "start"]

_STARTS_WITHIN = 20.0  # seconds


def listen(host: str, port: int) -> socket.socket:
    """
    Return a listening socket; port 0 picks a free one.

    Raises:
        OSError: The address is in use, or is not of this machine; the message names the remedy.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            taken = (
                f"port {port} of {host} is in use, for example by the page of another worker: port 0 takes a free one"
            )
            raise OSError(error.errno, taken) from None
        raise
    return sock


def _server(app: Any) -> Any:
    try:
        uvicorn: Any = importlib.import_module("uvicorn")
    except ImportError as error:
        raise missing("resilio.live", "live", error, "uvicorn, to serve its page") from error
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="auto", timeout_graceful_shutdown=3)
    return uvicorn.Server(config)


class Running:
    """
    A page served in a thread; made by :func:`start`. As a context manager it closes itself at the end of the block.

    Attributes:
        url: Address of the page.
    """

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def close(self) -> None:
        """End all streams and the thread; closing twice does nothing."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(page: Live, *, host: str = "127.0.0.1", port: int = 8765) -> Running:
    """
    Serve a page in a thread of its own, for processes that have no ASGI server: workers, WSGI services, scripts.

    Args:
        page: The page, made by :func:`live`.

        host: Address to listen on; by default this machine only, and then requests under other host names than
            those of this machine and the page's `hosts` are answered with 421.

        port: Port to listen on; 0 picks a free one.

    Raises:
        ImportError: uvicorn is not installed, or cannot be imported.

        OSError: The address is in use, or is not of this machine.

        RuntimeError: The server did not start.
    """
    shown = f"[{host}]" if ":" in host else host
    page.listens_on(host)
    with ExitStack() as stack:
        port = stack.enter_context(serving(page, listen(host, port)))
        return Running(f"http://{shown}:{port}/", stack.pop_all())


def _run(server: Any, sock: socket.socket) -> None:
    with suppress(SystemExit):  # it could not start, and has logged the reason
        server.run(sockets=[sock])


def serve(app: Any, sock: socket.socket) -> None:
    """Serve an ASGI app in this thread until Ctrl-C."""
    _server(app).run(sockets=[sock])


@contextmanager
def serving(app: Any, sock: socket.socket) -> Iterator[int]:
    """
    Serve an ASGI app in a thread for the duration of a block; the socket is closed at its end in any case.

    Yields:
        The port.

    Raises:
        ImportError: uvicorn is not installed, or cannot be imported.

        RuntimeError: The server did not start.
    """
    with sock:
        server = _server(app)
        with _thread(app, server, sock):
            yield sock.getsockname()[1]


@contextmanager
def _thread(app: Any, server: Any, sock: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=_run, args=(server, sock), name="resilio-page", daemon=True)
    thread.start()
    deadline = monotonic() + _STARTS_WITHIN
    try:
        while not server.started:
            if not thread.is_alive() or monotonic() > deadline:
                raise RuntimeError("the server of the live page did not start")
            sleep(0.01)
        yield
    finally:
        if isinstance(app, Live):
            app.stop()
        server.should_exit = True
        thread.join(_STARTS_WITHIN)
