"""The middleware for aiohttp's client with retries, hedges and timeouts: what is sent again, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp", minversion="3.12", reason="aiohttp >= 3.12 is not installed")

from servers.misbehaving import Exchange, Misbehaving, closed_port  # noqa: E402

import resilio  # noqa: E402
from resilio.integrations.aiohttp import middleware  # noqa: E402

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The client runs on asyncio only."""
    return "asyncio"


def breaker() -> resilio.CircuitBreaker:
    """A breaker that only counts."""
    return resilio.circuit_breaker(consecutive=1000, min_calls=200)


def retry(**options: Any) -> resilio.Retry:
    """Three attempts at once, for all that aiohttp raises and for 503 and 429."""
    return resilio.retry(
        on=(aiohttp.ClientError, TimeoutError),
        failed_if=lambda response: response.status in (429, 503),
        backoff=0.0,
        budget=None,
        **options,
    )


def session(policy: Any, **options: Any) -> Any:
    """A session whose requests go through the policy."""
    return aiohttp.ClientSession(middlewares=(middleware(policy, **options),))


def ends(policy: Any) -> tuple[int, int, int]:
    """Successes, failures, ignored; nothing is held."""
    found = policy.snapshot()
    assert found.inflight == 0
    return found.successes, found.failures, found.ignored


async def test_a_failing_status_is_tried_again_and_its_connection_let_go_of(server: Misbehaving) -> None:
    """Two 503, then an answer: each attempt is one for the breaker, and the caller sees the last."""
    inner = breaker()
    client = session(resilio.pipeline(retry(), inner))
    async with client, client.get(server.url + "/status/503?times=2") as response:
        assert (response.status, await response.read()) == (200, b"ok")
    assert server.total == 3
    assert ends(inner) == (1, 2, 0)


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("PUT", 3), ("POST", 1), ("PATCH", 1)])
async def test_only_idempotent_methods_are_sent_again(server: Misbehaving, method: str, sent: int) -> None:
    """A POST that has reached the server is not sent again, and the caller gets its answer."""
    async with session(retry()) as client, client.request(method, server.url + "/status/503", json={}) as response:
        assert response.status == 503
    assert server.total == sent


async def test_the_caller_may_know_better(server: Misbehaving) -> None:
    """An Idempotency-Key, or `idempotent`, allow a POST to be sent again; they can forbid it as well."""
    post = {"json": {"a": 1}}
    async with session(retry()) as client:
        await client.post(server.url + "/status/503?key", headers={"Idempotency-Key": "1"}, **post)
    assert server.total == 3
    async with session(retry(), idempotent=True) as client:
        await client.post(server.url + "/status/503", **post)
    assert server.total == 6
    async with session(retry(), idempotent=lambda request: request.url.path.startswith("/status")) as client:
        await client.post(server.url + "/status/503", **post)
    assert server.total == 9
    async with session(retry(), idempotent=False) as client:
        await client.get(server.url + "/status/503")
    assert server.total == 10
    async with session(retry(), idempotent=lambda request: request.no_such_thing) as client:
        assert (await client.get(server.url + "/status/503")).status == 503
    assert server.total == 11


async def test_a_request_that_was_never_sent_may_be_tried_again() -> None:
    """Nobody listens: a POST with a body that can be read once only is tried three times, for nothing was read."""

    async def body() -> AsyncIterator[bytes]:
        yield b"a"

    with closed_port() as port:
        async with session(retry()) as client:
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await client.post(f"http://127.0.0.1:{port}/", data=body())
    assert len(caught.value.resilio.attempts) == 3


async def test_a_server_that_says_nothing_was_done_may_be_asked_again(server: Misbehaving) -> None:
    """A 429 allows even a POST to be sent again."""
    async with session(retry()) as client, client.post(server.url + "/status/429?times=2", json={}) as response:
        assert response.status == 200
    assert server.total == 3


async def test_a_body_that_is_gone_is_not_sent_again(server: Misbehaving) -> None:
    """A stream, a file and a form are sent once, whatever the method and `idempotent` say."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"a"

    form = aiohttp.FormData()
    form.add_field("file", b"a", filename="a")
    async with session(retry(), idempotent=True) as client:
        for number, body in enumerate((stream(), BytesIO(b"a"), form), 1):
            async with client.put(server.url + "/status/503", data=body) as response:
                assert response.status == 503
            assert server.total == number
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            await client.post(server.url + "/reject", data=stream())
    assert caught.value.resilio.stop_reason == "not_replayable"


async def test_a_hedge_is_another_request_and_the_loser_lets_go(server: Misbehaving) -> None:
    """The first request hangs, the hedge answers: the loser's permit is back, and its connection closed."""
    inner = resilio.bulkhead(10)
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.2), inner)

    async def first_hangs(exchange: Exchange) -> None:
        if exchange.server.requests["/some"] > 20 and exchange.server.requests["/some"] % 2:
            await exchange.hang()
        else:
            await exchange.answer(exchange.body)

    server.routes["/some"] = first_hangs
    async with session(policy) as client:
        for _ in range(21):
            async with client.put(server.url + "/some", data=b"body") as response:
                assert await response.read() == b"body"
        await asyncio.to_thread(server.until, lambda: server.left["/some"] == 1)
    assert server.requests["/some"] == 22
    assert ends(inner) == (21, 0, 1)


async def test_a_late_loser_is_closed(server: Misbehaving) -> None:
    """Both copies answer with a body that goes on: the one that nobody sees is closed."""
    inner = resilio.bulkhead(10)
    policy = resilio.pipeline(resilio.hedge(idempotent=True, after=0.0), inner)

    async def drips(exchange: Exchange) -> None:
        if exchange.server.requests["/some"] <= 20:
            await exchange.answer()
            return
        await exchange.head()
        await exchange.chunk(b"a")
        await exchange.hang()

    server.routes["/some"] = drips
    async with session(policy) as client:
        for _ in range(20):
            await (await client.get(server.url + "/some")).read()
        for _ in range(5):
            async with client.get(server.url + "/some") as response:
                assert await response.content.readany() == b"a"
                while inner.snapshot().inflight > 1:  # noqa: ASYNC110 - the copy that lost ends in steps of its own
                    await asyncio.sleep(0)
    assert inner.snapshot().inflight == 0


async def test_what_may_not_be_repeated_is_not_hedged(server: Misbehaving) -> None:
    """A POST is sent once, however late it is."""
    policy = resilio.hedge(idempotent=True, after=0.005)

    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.015)
        await exchange.answer()

    server.routes["/late"] = late
    async with session(policy) as client:
        for _ in range(25):
            await (await client.post(server.url + "/late", data=b"a")).read()
    assert server.total == 25


async def test_a_timeout_of_the_policy_is_a_failure_for_gates_on_either_side(server: Misbehaving) -> None:
    """A breaker inside of a timeout knows whose cancellation it was; the error is one of aiohttp's as well."""
    inside, outside = breaker(), breaker()
    async with session(resilio.pipeline(outside, resilio.timeout(0.05), inside)) as client:
        with pytest.raises(resilio.CallTimeoutError) as caught:
            await client.get(server.url + "/reject-headers")
    assert isinstance(caught.value, aiohttp.ClientError)
    assert ends(inside) == (0, 1, 0)
    assert ends(outside) == (0, 1, 0)


async def test_a_fallback_gives_something_else(server: Misbehaving) -> None:
    """What a fallback returns is what the caller gets; nothing is held for it."""
    inner = breaker()

    async def elsewhere(request: Any) -> Any:
        async with aiohttp.ClientSession() as plain:
            response = await plain.get(server.url + "/ok")
            await response.read()
            return response

    policy = resilio.pipeline(resilio.fallback(elsewhere, on=(aiohttp.ClientError,)), inner)
    async with session(policy) as client:
        response = await client.get(server.url + "/reject")
        assert await response.read() == b"ok"
    assert ends(inner) == (0, 1, 0)


async def test_the_standard_stack(server: Misbehaving) -> None:
    """`standard(on="http")` around a session: retries, and every part is settled."""
    policy = resilio.standard("aiohttp-standard", on="http", idempotent=True, backoff=0.0)
    async with session(policy) as client, client.get(server.url + "/status/503?times=1") as response:
        assert await response.read() == b"ok"
    assert server.total == 2
    assert all(part.snapshot().inflight == 0 for part in policy.policies)


@pytest.mark.filterwarnings("ignore:bulkhead .* around retry")
async def test_a_policy_outside_of_retries_holds_on_to_the_end(server: Misbehaving) -> None:
    """A bulkhead around the retries counts one request from its first attempt to its last byte."""
    outer, inner = resilio.bulkhead(5), resilio.bulkhead(5)
    async with session(resilio.pipeline(outer, retry(), inner)) as client:
        async with client.get(server.url + "/status/503?times=2") as response:
            await response.read()
        async with client.get(server.url + "/hang-mid-body"):
            assert outer.snapshot().inflight == inner.snapshot().inflight == 1
    assert ends(outer) == (1, 0, 1)
    assert ends(inner) == (1, 2, 1)
