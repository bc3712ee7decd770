"""Servers as they are copied: what stays up under overload, and what becomes of an upstream that takes too long."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from serving.sockets import asgi_server, listening, until, wsgi_server

import resilio
from oracles.asgi_client import request
from resilio import CallTimeoutError, DeadlineExceededError, bulkhead, rate_limit, timeout
from resilio.integrations import asgi, wsgi
from resilio.metrics.prometheus import make_asgi_app

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "recipes.md"


def get(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Ask once, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


async def empty(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that answers all the same."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def plain(environ: Any, start_response: Any) -> list[bytes]:
    """The same in WSGI."""
    start_response("200 OK", [])
    return []


def asked(app: Any, environ: dict[str, Any]) -> int:
    """The status of a WSGI app's answer."""
    begun: list[str] = []
    b"".join(app({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", **environ}, lambda status, _: begun.append(status)))
    return int(begun[0][:3])


# ---- exempt ----------------------------------------------------------------------------------------------------------

EXEMPT = [
    ({}, {"/healthz": 200, "/readyz": 200, "/metrics": 503, "/": 503}),
    (
        {"exempt": ["/metrics/*"]},
        {"/metrics": 200, "/metrics/": 200, "/metrics/a": 200, "/metricsa": 503, "/livez": 200},
    ),
    ({"exempt": ["/static*"]}, {"/static": 200, "/statics": 200, "/stati": 503, "/health": 200}),
    ({"exempt": ["/*"]}, {"/": 200, "/a": 200}),
    ({"exempt": None}, {"/healthz": 503, "/metrics": 503}),
    ({"exempt": lambda asked: "metrics" in str(asked)}, {"/metrics": 200, "/healthz": 503}),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("options", "expected"), EXEMPT)
async def test_exempt_paths_are_added_to_those_of_health_checks(options: Any, expected: dict[str, int]) -> None:
    """`exempt=["/metrics/*"]` took health checks off the list, and left out `/metrics`, which scrapers ask for."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    served, by_threads = asgi.Middleware(empty, gate, **options), wsgi.Middleware(plain, gate, **options)
    assert {path: (await request(served, path=path)).status for path in expected} == expected
    assert {path: asked(by_threads, {"PATH_INFO": path}) for path in expected} == expected
    permit.success()


@pytest.mark.anyio
async def test_exempt_paths_count_from_where_an_app_is_mounted() -> None:
    """`/metrics` of an app that is mounted at `/shop` is exempt, too."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    served = asgi.Middleware(empty, gate, exempt=["/metrics/*"])
    assert (await request(served, path="/shop/metrics", root_path="/shop")).status == 200
    by_threads = wsgi.Middleware(plain, gate, exempt=["/metrics/*"])
    assert asked(by_threads, {"PATH_INFO": "/metrics", "SCRIPT_NAME": "/shop"}) == 200
    permit.success()


# ---- an upstream that takes too long ---------------------------------------------------------------------------------


@timeout(0.02, name="upstream")
async def upstream() -> None:
    await anyio.sleep(3600)


LATE = [CallTimeoutError("total", 0.02, "upstream"), DeadlineExceededError("the deadline has passed")]


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn", "hypercorn-trio"])
def test_an_upstream_that_takes_too_long_is_a_504(kind: str, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    """A guarded call that timed out, and that the app let out, was a 500 with a page of traceback in the log."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await upstream()

    gate = bulkhead(5)
    with asgi_server(kind, asgi.Middleware(app, gate)) as port:
        for _ in range(3):
            status, headers, body = get(port, "/orders")
            assert (status, body) == (504, "504 Gateway Timeout\n")
            assert "retry-after" not in {name.lower() for name in headers}
    assert gate.snapshot().failures == 3
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def test_an_upstream_of_fastapi_that_takes_too_long_is_a_504() -> None:
    """In FastAPI, under `add_middleware`, as the recipe has it."""
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()
    app.add_middleware(asgi.Middleware, policy=bulkhead(5))

    @app.get("/orders")
    async def orders() -> None:
        await upstream()

    with asgi_server("uvicorn", app) as port:
        assert get(port, "/orders")[0] == 504


@pytest.mark.parametrize("kind", ["wsgiref", "werkzeug"])
@pytest.mark.parametrize("error", LATE, ids=lambda error: type(error).__name__)
def test_an_upstream_of_a_thread_that_takes_too_long_is_a_504(kind: str, error: Exception, capfd: Any) -> None:
    """The same in WSGI, before the response has begun; a stream that has begun cannot be taken back."""

    def app(environ: Any, start_response: Any) -> Any:
        raise error

    def lazy(environ: Any, start_response: Any) -> Any:
        raise error
        yield b""

    for served in (app, lazy):
        with wsgi_server(wsgi.Middleware(served, bulkhead(5)), kind=kind) as port:
            status, _, body = get(port, "/orders")
            assert (status, body) == (504, "504 Gateway Timeout\n")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.anyio
async def test_what_is_no_timeout_of_ours_is_not_answered() -> None:
    """A `TimeoutError` of the app itself is its own defect, as before."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await request(asgi.Middleware(app, rate_limit("5/s")))


# ---- metrics under overload ------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_metrics_need_no_thread_of_the_app() -> None:
    """Handlers in threads that all hang left no thread for `/metrics`, just when it was looked at."""
    released, begun = threading.Event(), []

    def hang() -> None:
        begun.append(1)
        released.wait()

    limiter = anyio.to_thread.current_default_thread_limiter()
    async with anyio.create_task_group() as group:
        for _ in range(int(limiter.total_tokens)):
            group.start_soon(anyio.to_thread.run_sync, hang)
        while limiter.available_tokens:
            await anyio.lowlevel.checkpoint()
        answer = await request(make_asgi_app(), path="/metrics")
        assert (answer.status, limiter.available_tokens) == (200, 0)
        released.set()


@contextmanager
def recipe(tmp_path: Path, payments: int) -> Iterator[tuple[int, Path]]:
    """Serve the recipe's app by a uvicorn of its own; gives the port and the log."""
    text = RECIPES.read_text().partition("## FastAPI")[2]
    (tmp_path / "shop.py").write_text(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    log = tmp_path / "log"
    here = str(Path(resilio.__file__).parents[1])
    environment = {**os.environ, "PAYMENTS_URL": f"http://127.0.0.1:{payments}", "PYTHONPATH": here}
    command = [sys.executable, "-m", "uvicorn", "shop:app", "--log-level", "warning"]
    with listening() as listener, log.open("wb") as written:
        served = subprocess.Popen(
            [*command, "--fd", str(listener.fileno())],
            cwd=tmp_path,
            env=environment,
            pass_fds=[listener.fileno()],
            stdout=written,
            stderr=written,
        )
        try:
            yield listener.getsockname()[1], log
        finally:
            served.terminate()
            served.wait()


@pytest.mark.untraced  # a tracer prints tracebacks of its own into what the server prints
@pytest.mark.real(7.0)
def test_the_recipe_keeps_metrics_up_while_it_sheds(tmp_path: Path) -> None:
    """Under overload, with every call upstream hanging, the same process answers `/metrics` and health checks."""
    for library in ("fastapi", "httpx2", "uvicorn"):
        pytest.importorskip(library)
    with ExitStack() as stack:
        hanging = stack.enter_context(listening())  # takes connections, and never answers
        port, log = stack.enter_context(recipe(tmp_path, hanging.getsockname()[1]))
        assert get(port, "/healthz")[0] == 200
        clients: list[socket.socket] = []

        def sheds() -> bool:
            for _ in range(50):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"POST /orders/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                clients.append(client)
            status, _, page = get(port, "/metrics/")
            assert status == 200
            # What waits for its deadline is rejected too, and answered with 504: the first wave may be that alone.
            shed = r'resilio_rejected_total\{kind="load_shed",policy="shop",reason="(?:displaced|queue_full)"\} [1-9]'
            return re.search(shed, page) is not None

        until(sheds)
        status, headers, _ = get(port, "/metrics")
        assert status in (200, 307)  # without its slash a mounted app is elsewhere
        assert status == 200 or headers["location"].endswith("/metrics/")
        for path in ("/healthz", "/resilio/snapshot"):
            assert get(port, path)[0] == 200
        statuses = {int(client.recv(12).split()[1]) for client in clients}
    assert 503 in statuses
    assert statuses <= {503, 504}
    assert "Traceback" not in log.read_text()
