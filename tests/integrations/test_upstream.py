"""What a guarded client tells its server of the call: the number of the attempt, and the time left."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from measured import measured
from servers.misbehaving import Exchange, Misbehaving

from resilio import circuit_breaker, deadline, pipeline, retry
from resilio.integrations.httpx import AsyncTransport, Transport

NAME = "x-envoy-attempt-count"
CLIENTS = pytest.mark.parametrize("module", ["httpx", "httpx2"])


@pytest.fixture
def seen(server: Misbehaving) -> list[dict[str, str]]:
    """The headers of each request; all but the third are answered by a 503."""
    found: list[dict[str, str]] = []

    async def busy(exchange: Exchange) -> None:
        found.append(exchange.headers)
        await exchange.answer(b"", 200 if len(found) == 3 else 503)

    server.routes["/busy"] = busy
    return found


def tries() -> Any:
    """A policy that makes three attempts."""
    return pipeline(retry(on="http", backoff=0, budget=None), circuit_breaker())


@CLIENTS
@pytest.mark.anyio
async def test_an_async_client_sends_the_number_of_the_attempt(
    module: str, server: Misbehaving, seen: list[dict[str, str]]
) -> None:
    """A server that sheds could not tell a first attempt from a third; on asyncio and on trio."""
    client = pytest.importorskip(module, reason=f"{module} is not installed")
    transport = AsyncTransport(tries(), client=client, send_attempt=True, send_deadline=True)
    async with client.AsyncClient(transport=transport) as http, deadline(20):
        assert (await http.get(server.url + "/busy")).status_code == 200
    assert [headers[NAME] for headers in seen] == ["1", "2", "3"]
    assert all(0 < float(headers["x-request-timeout"]) <= 20 for headers in seen)


@CLIENTS
def test_a_client_of_threads_sends_the_number_of_the_attempt(
    module: str, server: Misbehaving, seen: list[dict[str, str]]
) -> None:
    """Under a name of the user's choice, and nothing by default."""
    client = pytest.importorskip(module, reason=f"{module} is not installed")
    with client.Client(transport=Transport(tries(), client=client, send_attempt="X-Try")) as http:
        http.get(server.url + "/busy")
    assert [headers["x-try"] for headers in seen] == ["1", "2", "3"]
    with client.Client(transport=Transport(tries(), client=client)) as http:
        http.get(server.url + "/busy")
    assert not any(NAME in headers or "x-try" in headers for headers in seen[3:])


@pytest.mark.anyio
async def test_a_copy_of_a_hedge_has_a_number_of_its_own(server: Misbehaving) -> None:
    """The server sees that it is not the first."""
    client = pytest.importorskip("httpx2", reason="httpx2 is not installed")
    found: list[str] = []

    async def slow(exchange: Exchange) -> None:
        found.append(exchange.headers[NAME])
        if len(found) == 1:
            with contextlib.suppress(ConnectionError):
                await exchange.reader.read()  # until the client goes
        else:
            await exchange.answer(b"copy")

    server.routes["/slow"] = slow
    transport = AsyncTransport(measured(0.05), client=client, send_attempt=True)
    async with client.AsyncClient(transport=transport) as http:
        assert (await http.get(server.url + "/slow")).text == "copy"
    assert found == ["1", "2"]


def test_requests_sends_the_number_of_the_attempt(server: Misbehaving, seen: list[dict[str, str]]) -> None:
    """And a session that went through pickle too."""
    requests = pytest.importorskip("requests", reason="requests is not installed")
    from resilio.integrations.requests import Adapter

    for through in (lambda one: one, lambda one: pickle.loads(pickle.dumps(one))):
        seen.clear()
        policy = retry(on="http", backoff=0, budget=None, name="upstream-of-requests")
        adapter = through(Adapter(policy, send_attempt=True))
        with requests.Session() as session:
            session.mount("http://", adapter)
            assert session.get(server.url + "/busy").status_code == 200
        assert [headers[NAME] for headers in seen] == ["1", "2", "3"]


def test_aiohttp_sends_the_number_of_the_attempt(server: Misbehaving, seen: list[dict[str, str]]) -> None:
    """As a middleware of its session."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    from resilio.integrations.aiohttp import middleware

    async def main() -> None:
        async with aiohttp.ClientSession(middlewares=(middleware(tries(), send_attempt=True),)) as session:
            assert (await session.get(server.url + "/busy")).status == 200

    anyio.run(main)
    assert [headers[NAME] for headers in seen] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"send_attempt": 1}, "send_attempt must be a header's name"),
        ({"send_attempt": "two words"}, "send_attempt must be a header's name"),
        ({"send_attempt": "x-one", "send_deadline": "X-One"}, "send_attempt must be another header than send_deadline"),
    ],
)
def test_a_wrong_header_is_rejected(options: dict[str, Any], message: str) -> None:
    """When the transport is made."""
    client = pytest.importorskip("httpx2", reason="httpx2 is not installed")
    make: Callable[..., Any] = AsyncTransport
    with pytest.raises((TypeError, ValueError), match=message):
        make(circuit_breaker(), client=client, **options)
