"""What a client of httpx or httpx2 was told before it was guarded: proxies, certificates, HTTP/2, limits."""

from __future__ import annotations

import importlib
import ssl
from typing import Any

import pytest
from servers.misbehaving import Exchange, Misbehaving

from resilio import circuit_breaker
from resilio.integrations.httpx import AsyncTransport, Transport, guard_client

CLIENTS = pytest.mark.parametrize("module", ["httpx", "httpx2"])
ELSEWHERE = "http://callee.invalid"
"""No name that anybody can look up: a request for it is answered by a proxy, or not at all."""


@pytest.fixture
def proxy(server: Misbehaving, monkeypatch: pytest.MonkeyPatch) -> Misbehaving:
    """A proxy on loopback that the environment names; it answers by itself, and counts."""

    async def forwarded(exchange: Exchange) -> None:
        await exchange.answer(exchange.target.encode(), 502 if "bad" in exchange.target else 200)

    server.routes["/"] = forwarded
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.url)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return server


def loaded(module: str) -> Any:
    """The client's module."""
    return pytest.importorskip(module, reason=f"{module} is not installed")


@CLIENTS
def test_a_guarded_client_goes_through_the_proxy_of_the_environment(module: str, proxy: Misbehaving) -> None:
    """The README's `transport=` came first, and whoever copied it went around the proxy of the company."""
    client = loaded(module)
    breaker = circuit_breaker(consecutive=2)
    with guard_client(client.Client(), breaker) as http:
        assert http.get(ELSEWHERE + "/x").text == ELSEWHERE + "/x"
        assert [http.get(ELSEWHERE + "/bad").status_code for _ in range(2)] == [502, 502]
    assert breaker.state == "open"
    assert proxy.total == 3


@CLIENTS
@pytest.mark.anyio
async def test_an_async_client_goes_through_the_proxy_of_the_environment(module: str, proxy: Misbehaving) -> None:
    """The same for clients of event loops, on asyncio and on trio."""
    client = loaded(module)
    breaker = circuit_breaker()
    async with guard_client(client.AsyncClient(), breaker) as http:
        assert (await http.get(ELSEWHERE + "/x")).text == ELSEWHERE + "/x"
    assert (breaker.snapshot().successes, proxy.total) == (1, 1)


@CLIENTS
def test_a_transport_knows_nothing_of_the_environment(module: str, proxy: Misbehaving) -> None:
    """What the page says of the other form: a client that is given a transport asks no proxy; `mounts` guards one."""
    client = loaded(module)
    with client.Client(transport=Transport(circuit_breaker(), client=client)) as http:
        with pytest.raises(client.ConnectError):
            http.get(ELSEWHERE + "/x")
        assert proxy.total == 0
    through = Transport(circuit_breaker(), client.HTTPTransport(proxy=proxy.url))
    with client.Client(mounts={"http://": through}) as http:
        assert http.get(ELSEWHERE + "/x").status_code == 200


@CLIENTS
def test_a_transport_in_a_client_of_the_other_kind_says_which_one_it_needs(module: str) -> None:
    """The client raised "'AsyncTransport' object has no attribute 'handle_request'", with or without a block."""
    client = loaded(module)
    transport: Any = AsyncTransport(circuit_breaker(), client=client)
    needs = rf"which {module}.Client calls: give {module}.Client a transport of its kind, Transport\(policy\)"
    with pytest.raises(AttributeError, match=rf"^AsyncTransport has no handle_request, {needs}"):
        client.Client(transport=transport).get(ELSEWHERE)
    with (
        pytest.raises(AttributeError, match=rf"^AsyncTransport has no __enter__, {needs}"),
        client.Client(transport=transport),
    ):
        """Never run."""
    assert not hasattr(transport, "handle_request")
    with pytest.raises(AttributeError, match="'AsyncTransport' object has no attribute 'handel'"):
        transport.handel


@CLIENTS
@pytest.mark.anyio
async def test_a_transport_of_threads_in_an_async_client_says_which_one_it_needs(module: str) -> None:
    """The other way round, on asyncio and on trio."""
    client = loaded(module)
    transport = Transport(circuit_breaker(), client=client)
    needs = rf"which {module}.AsyncClient calls: give .* its kind, AsyncTransport\(policy\)"
    with pytest.raises(AttributeError, match=rf"^Transport has no handle_async_request, {needs}"):
        await client.AsyncClient(transport=transport).get(ELSEWHERE)
    with pytest.raises(AttributeError, match=rf"^Transport has no __aenter__, {needs}"):
        async with client.AsyncClient(transport=transport):
            """Never run."""


@CLIENTS
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_guarding_a_client_keeps_what_its_transport_was_made_with(module: str, kind: str) -> None:
    """Certificates, HTTP/2 and limits are those of the client: the guard goes around the transport that has them."""
    client = loaded(module)
    context = ssl.create_default_context()
    limits = client.Limits(max_connections=7, max_keepalive_connections=3)
    made = getattr(client, kind)(verify=context, limits=limits, http2=importlib.util.find_spec("h2") is not None)
    pool = made._transport._pool
    guarded = guard_client(made, circuit_breaker())
    assert isinstance(guarded._transport, (AsyncTransport, Transport))
    inner = guarded._transport._inner._pool
    assert inner is pool
    assert (inner._ssl_context, inner._max_connections) == (context, 7)
    assert inner._http2 is (importlib.util.find_spec("h2") is not None)
