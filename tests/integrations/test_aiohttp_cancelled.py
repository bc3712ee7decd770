"""The middleware for aiohttp's client with strategies: requests cancelled at every step, and rules that raise."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
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


def session(policy: Any, **options: Any) -> Any:
    """A session whose requests go through the policy."""
    return aiohttp.ClientSession(middlewares=(middleware(policy, **options),))


def retry(**options: Any) -> resilio.Retry:
    """Three attempts at once, for what aiohttp raises and for 503."""
    given = {"on": (aiohttp.ClientError,), "failed_if": lambda response: response.status == 503, "backoff": 0.0}
    return resilio.retry(**{**given, "budget": None, **options})


def nothing_held(policy: Any) -> bool:
    """Whether no part of a policy holds a permit."""
    gc.collect()
    return all(part.snapshot().inflight == part.snapshot().queued == 0 for part in policy.policies)


Step = tuple[Callable[[], Any], str, Callable[[Misbehaving, Any], bool]]
STEPS: dict[str, Step] = {
    "in the queue": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(1, max_queued=5, max_wait=60.0)),
        "/hang",
        lambda server, policy: policy.policies[-1].snapshot().queued == 1,
    ),
    "in the first try": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(5)),
        "/hang",
        lambda server, policy: server.requests["/hang"] == 1,
    ),
    "in a retry's sleep": (
        lambda: resilio.pipeline(retry(backoff=60.0), resilio.bulkhead(5)),
        "/fail_and_hang",
        lambda server, policy: policy.policies[0].snapshot().retries == 1,
    ),
    "in the second try": (
        lambda: resilio.pipeline(retry(), resilio.bulkhead(5)),
        "/fail_and_hang",
        lambda server, policy: server.requests["/fail_and_hang"] == 2,
    ),
    "while a hedge races": (
        lambda: resilio.pipeline(resilio.hedge(idempotent=True, after=0.005), resilio.bulkhead(5)),
        "/hang",
        lambda server, policy: server.requests["/hang"] == 2,
    ),
    "within a timeout that was armed": (
        lambda: resilio.pipeline(resilio.timeout(60.0), retry(), resilio.bulkhead(5)),
        "/hang",
        lambda server, policy: server.requests["/hang"] == 1,
    ),
}


async def hang(exchange: Exchange) -> None:
    """Answer nothing."""
    await exchange.hang()


async def fail_and_hang(exchange: Exchange) -> None:
    """Answer 503, and from then on nothing."""
    if exchange.server.requests["/fail_and_hang"] == 1:
        await exchange.answer(status=503)
    else:
        await exchange.hang()


@pytest.mark.parametrize("step", STEPS)
async def test_a_request_may_be_cancelled_at_every_step(server: Misbehaving, step: str) -> None:
    """Its connection is closed, and nothing is held; the request, and all it knows, is let go of."""
    make, path, reached = STEPS[step]
    policy, seen = make(), []
    server.routes.update({"/hang": hang, "/fail_and_hang": fail_and_hang})

    async def see(request: Any, handler: Any) -> Any:
        seen.append(weakref.ref(request))
        return await handler(request)

    async with aiohttp.ClientSession(middlewares=(middleware(policy), see)) as client:
        if "hedge" in step:
            for _ in range(20):
                await (await client.get(server.url + "/ok")).read()
        held = policy.policies[-1].acquire() if "queue" in step else None
        task = asyncio.create_task(_get(client, server.url + path))
        await _until(lambda: reached(server, policy))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if held is not None:
            held.success()
        await _until(lambda: nothing_held(policy))
        await asyncio.to_thread(
            server.until, lambda: server.left["/hang"] + server.left["/fail_and_hang"] == _hung(server)
        )
    del task
    gc.collect()
    assert [one() for one in seen if one() is not None] == []


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what comes is not told
        await asyncio.sleep(0.001)


def _hung(server: Misbehaving) -> int:
    hung: int = server.requests["/hang"] + max(server.requests["/fail_and_hang"] - 1, 0)
    return hung


async def _get(client: Any, url: str) -> Any:
    return await client.get(url)


async def test_a_request_that_got_no_connection_is_left_as_it_was() -> None:
    """What stands for its `send` is taken back, whatever ends it; nothing keeps it alive."""
    seen: list[Any] = []

    async def see(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        finally:
            seen.append(request)

    with closed_port() as port:
        server_of_nobody = f"http://127.0.0.1:{port}/"
        copying = resilio.pipeline(retry(), resilio.hedge(after=20.0, idempotent=True))
        for policy in (retry(), resilio.pipeline(resilio.timeout(20.0), retry()), copying):
            guards = (middleware(policy), see)
            async with aiohttp.ClientSession(middlewares=guards) as client:
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await client.get(server_of_nobody)
            assert len(caught.value.resilio.attempts) == 3
            assert "send" not in vars(seen[-1])
            del caught
    gone = [weakref.ref(request) for request in seen]
    seen.clear()
    gc.collect()
    assert [one() for one in gone if one() is not None] == []


async def test_a_send_of_somebody_elses_is_left_in_its_place(server: Misbehaving) -> None:
    """A request whose `send` another middleware has replaced is sent by that, in each try."""
    sent: list[Any] = []

    async def replace(request: Any, handler: Any) -> Any:
        send = request.send

        def mine(connection: Any) -> Any:
            sent.append(connection)
            return send(connection)

        request.send = mine
        try:
            return await handler(request)
        finally:
            assert request.send is mine
            del request.send

    guards = (replace, middleware(retry()), middleware(resilio.pipeline(resilio.timeout(20.0), resilio.bulkhead(5))))
    url = server.url + "/status/503?times=2"
    async with aiohttp.ClientSession(middlewares=guards) as client, client.get(url) as response:
        assert (response.status, len(sent)) == (200, 3)


def broken(*_: Any) -> bool:
    """Ask a rule of a user's that is wrong."""
    raise LookupError("the user's")


async def test_what_rules_of_a_user_raise_is_contained(server: Misbehaving) -> None:
    """Requests go on without their word, and hold nothing."""
    inner = resilio.bulkhead(5)
    tries = resilio.retry(on=broken, failed_if=broken, backoff=0.0, budget=None)
    policy = resilio.pipeline(tries, inner)
    async with session(policy, idempotent=broken, failed_if=broken) as client:
        assert await (await client.get(server.url + "/ok")).read() == b"ok"
        assert (await client.get(server.url + "/status/503")).status == 503
        with pytest.raises(aiohttp.ClientError):
            await client.get(server.url + "/reject")
    assert nothing_held(policy)
    assert inner.snapshot().ignored == 2  # both answers, of which nobody could say what they are


@pytest.mark.filterwarnings("ignore:circuit_breaker .* around retry")
async def test_a_rejection_through_strategies_is_an_error_of_the_client(server: Misbehaving) -> None:
    """Of a stage inside of the retry as of one outside, within a guarded call and without one."""
    inside, outside = resilio.circuit_breaker("aiohttp-inside"), resilio.circuit_breaker("aiohttp-outside")
    policy = resilio.pipeline(outside, retry(), inside)
    for breaker in (inside, outside):
        breaker.force_open()
        async with session(policy) as client:
            for ask in (_get, resilio.bulkhead(5)(_get)):
                with pytest.raises(resilio.CircuitOpenError, match=breaker.name) as caught:
                    await ask(client, server.url + "/ok")
                assert isinstance(caught.value, aiohttp.ClientError)
    assert server.total == 0
