"""Serves the page by uvicorn: in this thread until Ctrl-C, or in a thread of its own beside other work."""

from __future__ import annotations

import importlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any

from resilio.integrations._extras import missing
from resilio.live._app import Live

__all__ = ["LOOPBACK", "listen", "serve", "serving"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine calls a server on it."""

_STARTS_WITHIN = 20.0  # seconds


def listen(host: str, port: int) -> socket.socket:
    """
    Return a socket that listens; a port of 0 is any that is free.

    Raises:
        OSError: The address is taken, or is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def _server(app: Any) -> Any:
    try:
        uvicorn: Any = importlib.import_module("uvicorn")
    except ImportError as error:
        raise missing("resilio.live", "live", error, "uvicorn, to serve its page") from error
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="auto", timeout_graceful_shutdown=3)
    return uvicorn.Server(config)


def _run(server: Any, sock: socket.socket) -> None:
    with suppress(SystemExit):  # it could not start, and has said why
        server.run(sockets=[sock])


def serve(app: Any, sock: socket.socket) -> None:
    """Serve an ASGI app in this thread until Ctrl-C."""
    _server(app).run(sockets=[sock])


@contextmanager
def serving(app: Any, sock: socket.socket) -> Iterator[int]:
    """
    Serve an ASGI app in a thread for the time of a block.

    Yields:
        The port.

    Raises:
        RuntimeError: The server did not start.
    """
    server = _server(app)
    thread = threading.Thread(target=_run, args=(server, sock), name="resilio-page", daemon=True)
    thread.start()
    deadline = monotonic() + _STARTS_WITHIN
    try:
        while not server.started:
            if not thread.is_alive() or monotonic() > deadline:
                raise RuntimeError("the server of the live page did not start")
            sleep(0.01)
        yield sock.getsockname()[1]
    finally:
        if isinstance(app, Live):
            app.stop()
        server.should_exit = True
        thread.join(_STARTS_WITHIN)
        sock.close()
