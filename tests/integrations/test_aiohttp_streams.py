"""The middleware for aiohttp's client and bodies that nobody reads to the end: no permit stays out."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp", minversion="3.12", reason="aiohttp >= 3.12 is not installed")

from aiohttp import web  # noqa: E402
from aiohttp.test_utils import TestServer  # noqa: E402
from servers.misbehaving import Misbehaving  # noqa: E402

import resilio  # noqa: E402
from resilio.integrations._shared import held_permits  # noqa: E402
from resilio.integrations.aiohttp import middleware  # noqa: E402

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]  # what is dropped has to be collected


@pytest.fixture
def anyio_backend() -> str:
    """The client runs on asyncio only."""
    return "asyncio"


def session(policy: Any, **options: Any) -> Any:
    """A session whose requests go through the policy."""
    return aiohttp.ClientSession(middlewares=(middleware(policy),), **options)


async def test_a_response_that_is_dropped_gives_its_permit_back(
    server: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    """The event loop would keep it while the server sends: it is collected, counted, and its connection closed."""
    policy = resilio.bulkhead(2, name="aiohttp-dropped")
    held_permits._logged.clear()
    async with session(policy) as client:
        for _ in range(3):
            response = await client.get(server.url + "/hang-mid-body")
            assert policy.snapshot().inflight == 1
            del response
            gc.collect()
            assert policy.snapshot().inflight == 0
        await asyncio.to_thread(server.until, lambda: server.left["/hang-mid-body"] == 3)
        assert policy.snapshot().abandoned == 3
        await (await client.get(server.url + "/ok")).read()
    told = [record.getMessage() for record in caplog.records if "aiohttp-dropped" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("a response of aiohttp-dropped: a response was dropped before its body had ended")


async def test_content_may_be_read_by_who_has_dropped_its_response() -> None:
    """Who holds nothing but `response.content` reads it to its end, as without a policy."""
    goes_on = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        await goes_on.wait()
        await response.write(b"b")
        return response

    app = web.Application()
    app.add_routes([web.get("/slow", slow)])
    policy = resilio.bulkhead(1)
    async with TestServer(app) as running, session(policy) as client:
        content = (await client.get(running.make_url("/slow"))).content
        assert await content.readany() == b"a"
        gc.collect()
        assert policy.snapshot().inflight == 1
        goes_on.set()
        assert await content.read() == b"b"
    found = policy.snapshot()
    assert (found.inflight, found.successes, found.abandoned) == (0, 1, 0)


async def test_a_body_broken_off_gives_its_permit_back(server: Misbehaving) -> None:
    """`break` out of a stream inside of `async with` is no outcome, and nothing is abandoned."""
    policy = resilio.bulkhead(1)
    async with session(policy) as client:
        for _ in range(3):
            async with client.get(server.url + "/drip?n=0") as response:
                async for _chunk in response.content.iter_any():
                    break
    found = policy.snapshot()
    assert (found.inflight, found.ignored, found.abandoned) == (0, 3, 0)


async def test_a_closed_session_gives_all_permits_back(server: Misbehaving) -> None:
    """What is still open when the session ends comes back with the responses."""
    policy = resilio.bulkhead(3)
    async with session(policy) as client:
        held = [await client.get(server.url + "/hang-mid-body") for _ in range(3)]
        assert policy.snapshot().inflight == 3
    for response in held:
        response.close()
    del held, response
    gc.collect()
    assert policy.snapshot().inflight == 0


async def test_a_websocket_holds_its_permit_until_it_is_closed() -> None:
    """A WebSocket is one call, from its handshake to its close, and no failure however it ends."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def no(request: web.Request) -> web.Response:
        return web.Response(status=403)

    app = web.Application()
    app.add_routes([web.get("/echo", echo), web.get("/no", no)])
    policy = resilio.bulkhead(1)
    async with TestServer(app) as running, session(policy) as client:
        async with client.ws_connect(running.make_url("/echo")) as socket:
            await socket.send_str("a")
            assert (await socket.receive()).data == "a"
            assert policy.snapshot().inflight == 1
            with pytest.raises(resilio.BulkheadFullError):
                await client.ws_connect(running.make_url("/echo"))
        assert policy.snapshot().inflight == 0
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.ws_connect(running.make_url("/no"))
    assert (policy.snapshot().inflight, policy.snapshot().successes) == (0, 2)


async def _break_off(client: Any, url: str, how: int, kept: list[Any]) -> None:
    """End a stream as applications do, one way of five."""
    if how == 0:  # broken off
        async with client.get(url + "/drip?n=0&every=1") as response:
            await response.content.readany()
    elif how == 1:  # abandoned
        kept.append(await client.get(url + "/drip?n=0&every=1"))
        kept.clear()
    elif how == 2:  # cancelled
        task = asyncio.create_task(_read(client, url + "/drip?n=0&every=1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == 3:  # timed out
        with pytest.raises(asyncio.TimeoutError):
            await _read(client, url + "/drip?n=0&every=1", timeout=aiohttp.ClientTimeout(total=0.002))
    else:  # cut by the server
        with pytest.raises(aiohttp.ClientError):
            await _read(client, url + "/die-mid-body")


async def _read(client: Any, url: str, **options: Any) -> None:
    async with client.get(url, **options) as response:
        await response.read()


@pytest.mark.parametrize(
    "streams",
    [pytest.param(200), pytest.param(4_000, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.soak)],
)
async def test_a_storm_of_streams_leaves_no_permit_out(server: Misbehaving, streams: int) -> None:
    """Streams broken off, abandoned, cancelled, timed out and cut: after a collection nothing is held."""
    policy = resilio.pipeline(resilio.circuit_breaker(enforce=False), resilio.bulkhead(100))
    kept: list[Any] = []

    async def worker(numbers: Any) -> None:
        for number in numbers:
            await _break_off(client, server.url, number % 5, kept)

    numbers = iter(range(streams))
    async with session(policy, connector=aiohttp.TCPConnector(limit=0)) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of aiohttp, about what was abandoned
            await asyncio.gather(*(worker(numbers) for _ in range(20)))
            gc.collect()
    found = policy.snapshot()
    assert (found.calls, found.inflight) == (streams, 0)
    assert [part.inflight for part in found.parts] == [0, 0]
    assert found.abandoned == streams // 5
