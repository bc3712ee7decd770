"""One quick test for each client and server: a call that succeeds, one that fails, one that is rejected."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import answers, fails, provide
from servers.postgres import Postgres
from servers.processes import installed
from servers.sdks import SDKS, Sdk
from servers.valkey import Valkey
from serving.memory import Request
from serving.sockets import wsgi_server

from resilio import CircuitOpenError, circuit_breaker
from resilio.integrations.llm import rejection_of

PATHS = ("/ok", "/status/503", "/ok")
"""What is asked of a server over HTTP: the failure opens the breaker."""


@pytest.fixture
def breaker() -> Any:
    """A breaker that one failure opens, for longer than a busy machine takes: .2 s was too short."""
    return circuit_breaker(consecutive=1, open_for=60.0)


def needed(name: str, module: str | None = None) -> tuple[Any, Any]:
    """Return a client's module and ours for it, or skip the test."""
    return pytest.importorskip(name), importlib.import_module(f"resilio.integrations.{module or name}")


def ended(breaker: Any) -> None:
    """One success, one failure, one rejection, and nothing is held."""
    seen = breaker.snapshot()
    assert (seen.successes, seen.failures, seen.rejected, seen.inflight) == (1, 1, 1, 0)


def over_http(ask: Callable[[str], int], breaker: Any, server: Misbehaving) -> None:
    """Ask by a client for threads."""
    assert [ask(server.url + path) for path in PATHS[:2]] == [200, 503]
    with pytest.raises(CircuitOpenError):
        ask(server.url + PATHS[2])
    assert server.total == 2
    ended(breaker)


async def aover_http(ask: Callable[[str], Awaitable[int]], breaker: Any, server: Misbehaving) -> None:
    """Ask by a client of an event loop."""
    assert [await ask(server.url + path) for path in PATHS[:2]] == [200, 503]
    with pytest.raises(CircuitOpenError):
        await ask(server.url + PATHS[2])
    assert server.total == 2
    ended(breaker)


# ---- clients over HTTP -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_httpx_in_threads(name: str, breaker: Any, server: Misbehaving) -> None:
    """A transport for threads."""
    httpx, ours = needed(name, "httpx")
    with httpx.Client(transport=ours.Transport(breaker, client=httpx)) as client:
        over_http(lambda url: client.get(url).status_code, breaker, server)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
async def test_httpx(name: str, breaker: Any, server: Misbehaving) -> None:
    """A transport for event loops, asyncio and trio."""
    httpx, ours = needed(name, "httpx")

    async def ask(url: str) -> int:
        return (await client.get(url)).status_code  # type: ignore[no-any-return]

    async with httpx.AsyncClient(transport=ours.AsyncTransport(breaker, client=httpx)) as client:
        await aover_http(ask, breaker, server)


def test_requests(breaker: Any, server: Misbehaving) -> None:
    """An adapter of a session."""
    requests, ours = needed("requests")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", ours.Adapter(breaker))
        over_http(lambda url: session.get(url).status_code, breaker, server)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttp(breaker: Any, server: Misbehaving) -> None:
    """A middleware of a session."""
    pytest.importorskip("aiohttp", minversion="3.12")
    aiohttp, ours = needed("aiohttp")

    async def ask(url: str) -> int:
        async with session.get(url) as response:
            await response.read()
            return response.status  # type: ignore[no-any-return]

    async with aiohttp.ClientSession(middlewares=(ours.middleware(breaker),)) as session:
        await aover_http(ask, breaker, server)


@pytest.mark.parametrize("sdk", SDKS, ids=repr)
def test_model_providers(sdk: Sdk, breaker: Any, server: Misbehaving) -> None:
    """A guarded client of an SDK; the rejection is found on the SDK's own exception."""
    pytest.importorskip(sdk.wire.name)
    provide(server, sdk.wire, answers("hello"), fails(503))
    with sdk.sync_client(server, breaker) as guarded:
        client = guarded.with_options(max_retries=0)
        assert sdk.text(sdk.ask(client)) == "hello"
        with pytest.raises(sdk.module.APIStatusError) as caught:
            sdk.ask(client)
        assert rejection_of(caught.value) is None
        with pytest.raises(sdk.module.APIStatusError) as caught:
            sdk.ask(client)
    assert isinstance(rejection_of(caught.value), CircuitOpenError)
    assert server.total == 2
    ended(breaker)


# ---- other clients ---------------------------------------------------------------------------------------------------


@pytest.mark.real(2.0)
def test_grpc() -> None:
    """A guarded channel, in a process of its own: see `test_grpc.py`."""
    pytest.importorskip("grpc")
    from integrations.test_grpc import check

    check("check_smoke.py")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """A Valkey for the tests of this module."""
    with installed(Valkey) as server:
        yield server


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_redis(name: str, breaker: Any, valkey: Valkey, nowhere: int) -> None:
    """A function whose client has time-outs of ours; a server that is not there is a failure."""
    client, ours = needed(name, "redis")
    kind = getattr(client, name.title())
    breaker.reconfigure(on="redis")
    with (
        kind(host="127.0.0.1", port=valkey.port, **ours.bounded(client)) as there,
        kind(host="127.0.0.1", port=nowhere, **ours.bounded(client)) as gone,
    ):
        assert breaker.call(there.set, "key", "value")
        with pytest.raises(client.ConnectionError):
            breaker.call(gone.get, "key")
        with pytest.raises(CircuitOpenError):
            breaker.call(there.get, "key")
    ended(breaker)


@pytest.mark.real(1.0)
def test_sqlalchemy(breaker: Any, postgres: Postgres, nowhere: int) -> None:
    """A function whose statements know the deadline; a database that is not there is a failure."""
    sqlalchemy, ours = needed("sqlalchemy")
    pytest.importorskip("psycopg")
    there = sqlalchemy.create_engine(f"postgresql+psycopg://{postgres.dsn}")
    gone = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@127.0.0.1:{nowhere}/postgres")
    ours.send_deadline(there)
    breaker.reconfigure(on="database")

    @breaker
    def ask(engine: Any) -> int:
        with engine.begin() as connection:
            return connection.scalar(sqlalchemy.text("SELECT 1"))  # type: ignore[no-any-return]

    try:
        assert ask(there) == 1
        with pytest.raises(sqlalchemy.exc.OperationalError):
            ask(gone)
        with pytest.raises(CircuitOpenError):
            ask(there)
    finally:
        there.dispose()
    ended(breaker)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncpg(breaker: Any, postgres: Postgres, nowhere: int) -> None:
    """A transaction under a breaker; a database that is not there is a failure."""
    asyncpg, ours = needed("asyncpg")
    breaker.reconfigure(on="database")

    @breaker
    async def ask(pool: Any) -> int:
        async with ours.transaction(pool) as connection:
            return await connection.fetchval("SELECT 1")  # type: ignore[no-any-return]

    at = {"min_size": 0, "max_size": 1}
    async with (
        asyncpg.create_pool(f"postgresql://{postgres.dsn}", **at) as there,
        asyncpg.create_pool(f"postgresql://postgres@127.0.0.1:{nowhere}/postgres", **at) as gone,
    ):
        assert await ask(there) == 1
        with pytest.raises(OSError, match="Connect call failed"):
            await ask(gone)
        with pytest.raises(CircuitOpenError):
            await ask(there)
    ended(breaker)


# ---- servers ---------------------------------------------------------------------------------------------------------


def over_asgi(app: Any, breaker: Any) -> None:
    """Ask an app that is guarded."""

    async def ask() -> list[int | None]:
        return [(await Request(path, query_string=b"").to(app)).status for path in PATHS]

    assert asyncio.run(ask()) == [200, 503, 503]
    ended(breaker)


def over_wsgi(app: Any, breaker: Any) -> None:
    """Ask an app that is guarded, over loopback."""
    httpx = pytest.importorskip("httpx2")
    with wsgi_server(app) as port, httpx.Client(trust_env=False) as client:
        found = [client.get(f"http://127.0.0.1:{port}{path}").status_code for path in PATHS]
    assert found == [200, 503, 503]
    ended(breaker)


def status_of(path: str) -> int:
    """The status of an answer to a path."""
    return int(path.rpartition("/")[2].replace("ok", "200"))


def test_asgi(breaker: Any) -> None:
    """The middleware around an app."""
    ours = importlib.import_module("resilio.integrations.asgi")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status_of(scope["path"]), "headers": []})
        await send({"type": "http.response.body", "body": b"said"})

    over_asgi(ours.Middleware(app, breaker), breaker)


def test_fastapi(breaker: Any) -> None:
    """The middleware, added as FastAPI adds one."""
    fastapi, ours = needed("fastapi", "asgi")
    app = fastapi.FastAPI()
    app.add_middleware(ours.Middleware, policy=breaker)

    @app.get("/{path:path}")
    async def answer(path: str) -> Any:
        return fastapi.Response(status_code=status_of("/" + path))

    over_asgi(app, breaker)


def test_wsgi(breaker: Any) -> None:
    """The middleware around an app."""
    ours = importlib.import_module("resilio.integrations.wsgi")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response(f"{status_of(environ['PATH_INFO'])} Said", [("Content-Length", "4")])
        return [b"said"]

    over_wsgi(ours.Middleware(app, breaker), breaker)


def test_flask(breaker: Any) -> None:
    """The middleware around a Flask app."""
    flask, ours = needed("flask", "wsgi")
    app = flask.Flask("smoke")

    @app.get("/<path:path>")
    def answer(path: str) -> Any:
        return "said", status_of("/" + path)

    app.wsgi_app = ours.Middleware(app.wsgi_app, breaker)
    over_wsgi(app, breaker)
