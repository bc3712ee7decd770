"""What transports do beyond single requests: HTTP/2, the ledger's phases, clocks in threads, which client it is."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
from servers.misbehaving import Misbehaving

import resilio
from resilio import bulkhead, circuit_breaker, current, pipeline, presets, retry, standard
from resilio.integrations._httpx import common as _httpx
from resilio.integrations._httpx.common import AsyncBody, named_client
from resilio.integrations.httpx import AsyncTransport, Transport


@pytest.fixture(params=["httpx", "httpx2"])
def client(request: pytest.FixtureRequest) -> Any:
    """The module: httpx, or httpx2."""
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


# ---- who sends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "of", [circuit_breaker, lambda: pipeline(retry(on=OSError), circuit_breaker())], ids=["a gate", "a strategy"]
)
def test_what_replaces_a_transports_method_is_asked(client: Any, of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who replaces a method of the client's transports after ours was made, as mocks and tracers do, replaces it here too.

    The method that was there was kept: tests of a guarded client that modules share went out to the network.
    """
    policy = of()
    threads = client.Client(transport=Transport(policy, client=client), base_url="http://127.0.0.1:1")
    tasks = client.AsyncClient(transport=AsyncTransport(policy, client=client), base_url="http://127.0.0.1:1")

    async def later(self: Any, request: Any) -> Any:
        return client.Response(200, text="mocked")

    monkeypatch.setattr(
        client.HTTPTransport, "handle_request", lambda self, request: client.Response(200, text="mocked")
    )
    monkeypatch.setattr(client.AsyncHTTPTransport, "handle_async_request", later)

    async def asked() -> str:
        async with tasks:
            return str((await tasks.get("/")).text)

    with threads:
        assert (threads.get("/").text, anyio.run(asked)) == ("mocked", "mocked")
    assert policy.snapshot().successes == 2


# ---- HTTP/2 ----------------------------------------------------------------------------------------------------------


async def _app(stop: asyncio.Event, scope: Any, receive: Any, send: Any) -> None:
    """Three parts, or as many as there is time for."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    endless = scope["path"] == "/endless"
    sent = 0
    while not stop.is_set() and (endless or sent < 3):
        sent += 1
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def http2_server() -> Iterator[str]:
    """Hypercorn, which speaks HTTP/2 without TLS to who knows that it does."""
    pytest.importorskip("h2", reason="h2 is not installed")
    config_of = pytest.importorskip("hypercorn.config", reason="hypercorn is not installed")
    serve = importlib.import_module("hypercorn.asyncio").serve
    config = config_of.Config()
    config.accesslog = config.errorlog = None
    config.graceful_timeout = config.shutdown_timeout = 0.1
    sockets = config_of.Config.create_sockets
    config.bind = ["127.0.0.1:0"]
    created = sockets(config)
    created.insecure_sockets[0].listen(100)  # a client that comes before the server runs waits for it
    port = created.insecure_sockets[0].getsockname()[1]
    config.create_sockets = lambda: created  # type: ignore[method-assign]
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    served = loop.create_task(serve(partial(_app, stop), config, shutdown_trigger=stop.wait))

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(served)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        if thread.is_alive():  # from 3.12 on it waits for connections, and one may not notice that it has ended
            loop.call_soon_threadsafe(served.cancel)
            thread.join(10)
        loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.anyio
async def test_streams_of_one_http2_connection_hold_a_permit_each(client: Any) -> None:
    """Over HTTP/2 each stream is a request: its permit ends with it, while others of the connection go on."""
    room = bulkhead(5)
    with http2_server() as url:
        inner = client.AsyncHTTPTransport(http1=False, http2=True)
        async with client.AsyncClient(transport=AsyncTransport(room, inner), base_url=url) as http:
            async with http.stream("GET", "/endless") as endless:
                assert endless.http_version == "HTTP/2"
                answers: list[Any] = []

                async def fetch() -> None:
                    answers.append(await http.get("/parts"))

                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(fetch)
                assert [answer.content for answer in answers] == [b"part" * 3] * 3
                assert room.snapshot().inflight == 1
                assert len(inner._pool.connections) == 1
            assert room.snapshot().inflight == 0
    assert (room.snapshot().successes, room.snapshot().ignored) == (3, 1)
    gc.collect()  # what the server's connections have left is told here, where the warnings are expected


# ---- the ledger ------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_ledger_tells_connecting_waiting_and_reading_apart(client: Any, server: Misbehaving) -> None:
    """A call around requests knows how long they connected, waited for headers, and read; a kept connection is none."""
    async with client.AsyncClient(transport=AsyncTransport(circuit_breaker(), client=client)) as http:

        @bulkhead(1)
        async def fetch() -> Any:
            await http.get(server.url + "/drip?n=3")
            return current().segments  # type: ignore[union-attr]

        first, second = await fetch(), await fetch()
    assert first.connect > 0
    assert min(first.first_byte, first.body, second.first_byte, second.body) > 0
    assert second.connect == 0
    assert server.connections == 1


def test_the_ledger_of_a_thread(client: Any, server: Misbehaving) -> None:
    """The same in threads; a transport that connects by other means has no connecting told apart."""
    with client.Client(transport=Transport(circuit_breaker(), client=client)) as http:

        @bulkhead(1)
        def fetch() -> Any:
            http.get(server.url + "/drip?n=3")
            return current().segments  # type: ignore[union-attr]

        first, second = fetch(), fetch()
    assert first.connect > 0
    assert second.connect == 0
    assert min(first.first_byte, first.body) > 0
    again = http._transport._inner
    Transport(bulkhead(1), again)  # a second guard of the same pool times it once
    assert type(again._pool._network_backend._inner).__name__ != "_Backend"


# ---- clocks in threads -----------------------------------------------------------------------------------------------


def test_a_body_that_stalls_is_ended_in_threads(client: Any, server: Misbehaving) -> None:
    """A thread's idle clock is the socket's read timeout, and what is raised says which clock it was."""
    stack = standard("stalls", on=attrs.evolve(presets.http, idle=0.05), attempts=1)
    with client.Client(transport=Transport(stack, client=client)) as http:
        assert http.get(server.url + "/drip?n=3&every=0", timeout=30.0).status_code == 200
        with pytest.raises(client.TimeoutException) as caught:
            http.get(server.url + "/hang-mid-body", timeout=30.0)
        with pytest.raises(client.ReadTimeout):  # the client's own, which is shorter
            http.get(server.url + "/hang-mid-body", timeout=client.Timeout(30.0, read=0.01))
        bare = http._transport.handle_request(client.Request("GET", server.url + "/ok"))  # without times of its own
        assert bare.read() == b"ok"
    error: Any = caught.value
    assert isinstance(error, resilio.CallTimeoutError)
    assert (error.clock, error.limit) == ("idle", 0.05)
    assert stack.snapshot().inflight == 0


@pytest.mark.anyio
async def test_a_read_that_goes_wrong_under_an_idle_clock_stays_what_it_is(client: Any, server: Misbehaving) -> None:
    """The clock takes no error of another's for its own."""
    stack = standard("dies", on=attrs.evolve(presets.http, idle=30.0), attempts=1)
    async with client.AsyncClient(transport=AsyncTransport(stack, client=client)) as http:
        with pytest.raises(client.RemoteProtocolError):
            await http.get(server.url + "/die-mid-body")
    with client.Client(transport=Transport(stack, client=client)) as threads:
        for path, error in (("/die-mid-body", client.RemoteProtocolError), ("/ok", None)):
            if error is None:
                assert (await anyio.to_thread.run_sync(threads.get, server.url + path)).is_success
            else:
                with pytest.raises(error):
                    await anyio.to_thread.run_sync(threads.get, server.url + path)
    assert stack.snapshot().inflight == 0


# ---- bodies ----------------------------------------------------------------------------------------------------------


class _Parts:
    """A stream of two parts."""

    def __init__(self) -> None:
        self.closed = 0

    async def __aiter__(self) -> Any:
        yield b"a"
        yield b"b"

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.anyio
async def test_a_body_is_what_async_generators_are(client: Any) -> None:
    """Who takes a body for an async generator, as httpx2 does, can send to it, throw into it, and close it."""
    made = named_client(client, "test").body_of("AsyncBaseTransport", None, "a response")
    room, inner = bulkhead(2), _Parts()
    body: AsyncBody = made(inner, {})
    body.add(room.acquire())
    assert await body.__aiter__().asend(None) == b"a"
    with pytest.raises(KeyError):
        await body.athrow(KeyError("thrown"))
    assert inner.closed == 1
    await body.aclose()
    assert inner.closed == 1
    assert (room.snapshot().ignored, room.snapshot().inflight) == (1, 0)


# ---- which client ----------------------------------------------------------------------------------------------------


def test_the_client_that_is_imported_is_taken(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody says which, it is the one that is imported, else one that is installed."""
    other = "httpx" if client.__name__ == "httpx2" else "httpx2"
    monkeypatch.delitem(sys.modules, other, raising=False)
    assert named_client(None, "test").module is client
    monkeypatch.delitem(sys.modules, client.__name__)
    assert _httpx._only_one("test") == "httpx2"


def test_a_client_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the module, the packages and the extra."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"pip install 'resilio-sdk\[httpx\]'"):
        AsyncTransport(bulkhead(1), client="httpx2")
