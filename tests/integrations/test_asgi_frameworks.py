"""The ASGI middleware in Starlette and FastAPI, as their users add it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from serving.memory import Request
from serving.sockets import Raw, asgi_server, until

from resilio import CircuitOpenError, bulkhead, circuit_breaker, load_shed, remaining
from resilio.integrations.asgi import Middleware

starlette = pytest.importorskip("starlette", reason="starlette is not installed")

# Starlette's BaseHTTPMiddleware, with or without ours, leaves memory streams (before 0.45) and the stream of a body
# that was read (1.0 still) to the collector, and says so there. That is no permit of ours.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(function MemoryObject|async_generator object Request.stream)"
    ":pytest.PytestUnraisableExceptionWarning"
)


def starlette_app(gate: Any, **options: Any) -> Any:
    """Return an app with all that frameworks do to a response."""
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware as Entry
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    seen: list[Any] = []

    async def plain(request: Any) -> Any:
        await request.body()
        return PlainTextResponse("served", background=BackgroundTask(after))

    async def after() -> None:
        seen.append(gate.snapshot().inflight)

    async def stream(request: Any) -> Any:
        async def parts() -> Any:
            while True:
                yield b"drop"
                await anyio.sleep(0.001)

        return StreamingResponse(parts())

    async def rejected(request: Any) -> Any:
        raise CircuitOpenError("circuit_breaker", retry_after=7.0)

    async def fails(request: Any) -> Any:
        raise ZeroDivisionError

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    routes = [Route(f"/{f.__name__}", f, methods=["GET", "POST"]) for f in (plain, stream, rejected, fails)]
    layers = [Entry(Middleware, policy=gate, **options), Entry(BaseHTTPMiddleware, dispatch=pass_on)]
    app = Starlette(routes=routes, middleware=layers)
    app.state.seen = seen
    return app


@pytest.mark.anyio
async def test_ls01_a_background_task_of_starlette_holds_no_permit() -> None:
    """LS-01: what Starlette does after its response has the permit no more."""
    gate = bulkhead(1)
    app = starlette_app(gate)
    request = await Request("/plain", body=(b"a", b"b")).to(app)
    assert (request.status, request.body, app.state.seen) == (200, b"served", [0])
    assert gate.snapshot().successes == 1


@pytest.mark.anyio
async def test_a_handler_whose_guarded_call_is_rejected_answers_503_with_retry_after() -> None:
    """A rejection that nobody handles is not an Internal Server Error."""
    gate = circuit_breaker()
    request = await Request("/rejected").to(starlette_app(gate))
    assert request.status == 503
    assert int(request.headers["retry-after"]) >= 7
    assert gate.snapshot().ignored == 1


@pytest.mark.anyio
async def test_a_handler_that_raises_is_a_failure() -> None:
    """The framework's 500 is made outside of the middleware; the exception it has seen is what counts."""
    gate = circuit_breaker()
    request = Request("/fails")
    with pytest.raises(ZeroDivisionError):
        await request.to(starlette_app(gate))
    assert (request.status, gate.snapshot().failures) == (500, 1)


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_ls01_a_client_that_leaves_a_stream_of_starlette_frees_its_permit(kind) -> None:
    """LS-01: through routing, exception handlers and another middleware, a stream that is broken off holds nothing."""
    gate = bulkhead(1)
    with asgi_server(kind, starlette_app(gate)) as port:
        for _ in range(3):
            with Raw(port) as client:
                client.say("GET /stream HTTP/1.1\nHost: a\n\n")
                client.head()
                assert gate.snapshot().inflight == 1
                client.vanish()
            until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().ignored, gate.snapshot().failures) == (3, 0)


@pytest.mark.real(1.0)
def test_fastapi_is_guarded_by_add_middleware() -> None:
    """In FastAPI `app.add_middleware(Middleware, policy=...)` is all; handlers know how long their callers wait."""
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
    gate = load_shed(max_concurrent=1)
    app = fastapi.FastAPI()

    @app.get("/left")
    async def left() -> dict[str, Any]:
        return {"left": remaining()}

    @app.get("/threads")
    def threads() -> dict[str, Any]:
        return {"left": remaining()}

    @app.get("/slow")
    async def slow() -> None:
        await anyio.sleep(3600.0)

    app.add_middleware(Middleware, policy=gate, trust=["127.0.0.1"], max_deadline=5.0, server_timing=True)
    with asgi_server("uvicorn", app) as port, Raw(port) as client:
        for path in ("left", "threads"):
            client.say(f"GET /{path} HTTP/1.1\nHost: a\nX-Request-Timeout: 60\n\n")
            head = client.head()
            assert "server-timing: attempt;dur=" in head
            said = client.body(head)
            assert b"left" in said
            assert 0.0 < float(said.split(b":")[1].strip(b"}")) <= 5.0
        client.say("GET /slow HTTP/1.1\nHost: a\nX-Request-Timeout: 0.05\n\n")
        head = client.head()
        assert " 504" in head
    assert gate.snapshot().inflight == 0
