"""The apps and the servers that `servers.py` measures: each app under two paths, with the middleware and without."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ASKED", "BODY", "SERVERS", "bare_asgi", "bare_wsgi", "missing", "serving", "starlette"]

BODY = b"x" * 512
HEADERS = [("content-type", "application/octet-stream"), ("content-length", str(len(BODY)))]
ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS]
ASKED = (
    "Host: a\r\nUser-Agent: benchmark/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    "X-Request-Id: 0123456789abcdef\r\nX-Forwarded-For: 10.1.2.3\r\n"
)
"""Headers of a request, as many as usual."""


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    """Serve a small body."""
    await send({"type": "http.response.start", "status": 200, "headers": ENCODED})
    await send({"type": "http.response.body", "body": BODY})


def bare_wsgi(environ: Any, start_response: Any) -> list[bytes]:  # noqa: ARG001
    """Serve a small body."""
    start_response("200 OK", HEADERS)
    return [BODY]


def starlette() -> Any:
    """Return an app of Starlette that serves the same."""
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def served(request: Any) -> Any:  # noqa: ARG001
        return Response(BODY, media_type="application/octet-stream")

    return Starlette(routes=[Route(f"/{path}", served) for path in ("guarded", "bare", "again", "empty")])


def _asgi(app: Any) -> Any:
    from resilio import load_shed
    from resilio.integrations.asgi import Middleware

    async def empty(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    apps = {"/guarded": Middleware(app, load_shed()), "/empty": empty}

    async def by_path(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await apps.get(scope["path"], app)(scope, receive, send)

    return by_path


def _wsgi(app: Any) -> Any:
    from resilio import load_shed
    from resilio.integrations.wsgi import Middleware

    def empty(environ: Any, start: Any) -> Any:
        return app(environ, start)

    apps = {"/guarded": Middleware(app, load_shed()), "/empty": empty}
    return lambda environ, start: apps.get(environ["PATH_INFO"], app)(environ, start)


def _uvicorn(app: Any, listener: socket.socket, **options: Any) -> None:
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", **options)).run(
        sockets=[listener]
    )


def _werkzeug(app: Any, listener: socket.socket) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *args: Any, **more: Any) -> None:
            """Nothing to say."""

    make_server("", 0, app, threaded=True, request_handler=Handler, fd=listener.fileno()).serve_forever()


def _gunicorn(app: Any, listener: socket.socket, **options: Any) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)
            self.cfg.set("bind", f"fd://{listener.fileno()}")
            self.cfg.set("loglevel", "critical")
            self.cfg.set("preload_app", True)

        def load(self) -> Any:
            return app

    Application().run()


class Kind(NamedTuple):
    """A server with an app."""

    serve: Callable[[socket.socket], None]
    needs: tuple[str, ...]
    what: str
    has_worker: bool = False


# Gunicorn closes a connection that is idle for 2 s, uvicorn after 5: on a busy machine one is, while others are served.
KEPT = 60
H11 = {"http": "h11", "loop": "asyncio", "timeout_keep_alive": KEPT}
QUICK = {"http": "httptools", "loop": "uvloop", "timeout_keep_alive": KEPT}
GTHREAD = {"worker_class": "gthread", "threads": 4, "workers": 1, "keepalive": KEPT}
SERVERS: dict[str, Kind] = {
    "asgi": Kind(lambda at: _uvicorn(_asgi(bare_asgi), at, **H11), ("uvicorn",), "uvicorn, h11"),
    "starlette": Kind(lambda at: _uvicorn(_asgi(starlette()), at, **H11), ("uvicorn", "starlette"), "uvicorn, h11"),
    "asgi-quick": Kind(
        lambda at: _uvicorn(_asgi(bare_asgi), at, **QUICK),
        ("uvicorn", "httptools", "uvloop"),
        "uvicorn, httptools, uvloop",
    ),
    "starlette-quick": Kind(
        lambda at: _uvicorn(_asgi(starlette()), at, **QUICK),
        ("uvicorn", "starlette", "httptools", "uvloop"),
        "uvicorn, httptools, uvloop",
    ),
    "wsgi": Kind(lambda at: _werkzeug(_wsgi(bare_wsgi), at), ("werkzeug",), "werkzeug, a thread each"),
    "wsgi-gthread": Kind(
        lambda at: _gunicorn(_wsgi(bare_wsgi), at, **GTHREAD), ("gunicorn",), "gunicorn, gthread", has_worker=True
    ),
    "wsgi-sync": Kind(
        lambda at: _gunicorn(_wsgi(bare_wsgi), at, workers=1), ("gunicorn",), "gunicorn, sync", has_worker=True
    ),
}


def missing(kind: str) -> list[str]:
    """Return the packages that a kind needs and that are not installed."""
    return [name for name in SERVERS[kind].needs if find_spec(name) is None]


@contextmanager
def serving(kind: str) -> Iterator[tuple[int, int]]:
    """Serve in a process of its own; gives the id of the process that serves, and the port."""
    # Named, or asyncio does not know it for TCP, and leaves Nagle's algorithm on.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    child = os.fork()
    if child == 0:
        try:
            sys.argv = sys.argv[:1]
            listener.set_inheritable(True)
            SERVERS[kind].serve(listener)
        finally:
            os._exit(1)
    port = listener.getsockname()[1]
    listener.close()
    try:
        yield (_worker_of(child) if SERVERS[kind].has_worker else child), port
    finally:
        os.kill(child, signal.SIGTERM if SERVERS[kind].has_worker else signal.SIGKILL)
        os.waitpid(child, 0)


def _worker_of(master: int) -> int:
    """Return the one process that it has begun, once it has."""
    children = Path(f"/proc/{master}/task/{master}/children")
    for _ in range(1000):
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.01)
    sys.exit("the server has not begun a worker")
