"""The middleware for aiohttp's client, against a server that misbehaves: what a request means to a policy."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import pickle
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp", minversion="3.12", reason="aiohttp >= 3.12 is not installed")

from servers.misbehaving import Exchange, Misbehaving, closed_port  # noqa: E402

import resilio  # noqa: E402
from resilio import errors  # noqa: E402
from resilio.integrations.aiohttp import host, middleware  # noqa: E402

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The client runs on asyncio only."""
    return "asyncio"


def breaker(**options: Any) -> resilio.CircuitBreaker:
    """A breaker that only counts."""
    return resilio.circuit_breaker(consecutive=1000, min_calls=200, **options)


def session(policy: Any, connector: Any = None, **options: Any) -> Any:
    """A session whose requests go through the policy."""
    return aiohttp.ClientSession(middlewares=(middleware(policy, **options),), connector=connector)


def ends(policy: Any) -> tuple[int, int, int]:
    """Successes, failures, ignored; nothing is held."""
    found = policy.snapshot()
    assert found.inflight == 0
    return found.successes, found.failures, found.ignored


def tried(error: BaseException) -> int:
    """How many attempts an error tells of."""
    return len(error.resilio.attempts)  # type: ignore[attr-defined]


async def test_a_request_is_answered_as_without_a_policy(server: Misbehaving) -> None:
    """Status, headers and body are those of the server; the call is a success."""
    policy = breaker()
    async with session(policy) as client, client.post(server.url + "/echo", json={"a": 1}) as response:
        assert (await response.json())["body"] == '{"a": 1}'
    assert ends(policy) == (1, 0, 0)


async def test_a_permit_is_held_until_the_body_has_been_read(server: Misbehaving) -> None:
    """LS-01 for a client: the headers are here, and the bulkhead still counts the request."""
    asked = threading.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.chunk(b"a")
        await asyncio.to_thread(asked.wait, 20)
        await exchange.chunk(b"b")
        await exchange.chunk(b"")

    server.routes["/slow"] = slow
    policy = resilio.bulkhead(1)
    async with session(policy) as client, client.get(server.url + "/slow") as response:
        assert policy.snapshot().inflight == 1
        with pytest.raises(resilio.BulkheadFullError):
            await client.get(server.url + "/ok")
        asked.set()
        assert await response.read() == b"ab"
        assert policy.snapshot().inflight == 0
    assert ends(policy) == (1, 0, 0)
    assert server.requests["/ok"] == 0


async def test_a_body_that_is_here_with_the_headers_is_settled_at_once(server: Misbehaving) -> None:
    """A short answer and one without a body hold nothing."""
    policy = resilio.bulkhead(1)
    async with session(policy) as client:
        async with client.head(server.url + "/ok"):
            assert policy.snapshot().inflight == 0
        async with client.get(server.url + "/empty") as response:
            assert response.status == 204
    assert ends(policy) == (2, 0, 0)


@pytest.mark.parametrize("path", ["/die-mid-body", "/die-mid-body?reset=1", "/sse?n=2&end=die"])
async def test_a_body_that_dies_is_a_failure(server: Misbehaving, path: str) -> None:
    """A connection cut in the middle of a body is a failure, although the status was 200."""
    policy = breaker()
    async with session(policy) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get(server.url + path) as response:
                await response.read()
    assert ends(policy) == (0, 1, 0)
    assert server.cut.total() == 1


async def test_a_body_that_breaks_its_encoding_is_a_failure(server: Misbehaving) -> None:
    """What cannot be decompressed counts as broken; what can is a success."""

    async def broken(exchange: Exchange) -> None:
        await exchange.answer(b"this is no gzip", headers={"content-encoding": "gzip"})

    server.routes["/broken"] = broken
    policy = breaker()
    async with session(policy) as client:
        async with client.get(server.url + "/gzip?size=100000") as response:
            assert len(await response.read()) == 100_000
        with pytest.raises(aiohttp.ClientError):
            async with client.get(server.url + "/broken") as response:
                await response.read()
    assert ends(policy) == (1, 1, 0)


async def test_a_request_without_an_answer_is_a_failure(server: Misbehaving) -> None:
    """A closed connection is a failure, that of aiohttp's own second attempt as well."""
    policy = breaker()
    async with session(policy) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get(server.url + "/reject")
    assert ends(policy) == (0, server.total, 0)
    assert server.total == 2  # aiohttp tries an idempotent request once more by itself


async def test_a_rejected_connection_is_a_failure() -> None:
    """Nobody listens."""
    policy = breaker()
    with closed_port() as port:
        async with session(policy) as client:
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(f"http://127.0.0.1:{port}/")
    assert ends(policy) == (0, 1, 0)


@pytest.mark.parametrize("limit", [{"total": 0.2}, {"sock_read": 0.2}])
@pytest.mark.parametrize("path", ["/reject-headers", "/hang-mid-body"])
async def test_a_timeout_of_the_client_is_a_failure(server: Misbehaving, path: str, limit: dict[str, float]) -> None:
    """Whichever of aiohttp's timeouts fires, before the headers or in the body."""
    policy = breaker()
    async with session(policy) as client:
        with pytest.raises(asyncio.TimeoutError):
            async with client.get(server.url + path, timeout=aiohttp.ClientTimeout(**limit)) as response:
                await response.read()
    assert ends(policy) == (0, 1, 0)
    assert server.hung[path] == 1


@pytest.mark.parametrize("path", ["/reject-headers", "/hang-mid-body"])
async def test_a_cancelled_request_says_nothing(server: Misbehaving, path: str) -> None:
    """The caller did not wait: that is no failure, and the permit is back."""
    policy = breaker()

    async def ask(client: Any) -> None:
        async with client.get(server.url + path) as response:
            await response.read()

    async with session(policy) as client:
        task = asyncio.create_task(ask(client))
        await asyncio.to_thread(server.until, lambda: server.hung[path])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert ends(policy) == (0, 0, 1)


async def test_a_body_given_up_says_nothing_unless_its_status_did(server: Misbehaving) -> None:
    """A caller who leaves a good response unread is no failure of the server, and a 503 is one, read or not."""

    async def long(exchange: Exchange) -> None:
        await exchange.head(503)
        await exchange.chunk(b"no")
        await exchange.hang()

    server.routes["/long"] = long
    policy = breaker()
    async with session(policy) as client:
        async with client.get(server.url + "/hang-mid-body"):
            pass
        assert ends(policy) == (0, 0, 1)
        async with client.get(server.url + "/long") as response:
            with pytest.raises(aiohttp.ClientResponseError):
                response.raise_for_status()
        assert ends(policy) == (0, 1, 1)


async def test_statuses_are_judged_by_failed_if(server: Misbehaving) -> None:
    """5xx is a failure, 4xx is not; another rule may be given, or that of the policy alone."""
    policy, strict = breaker(), breaker()
    own = breaker(failed_if=lambda response: response.status == 418)
    for used, options in ((policy, {}), (strict, {"failed_if": lambda r: r.status >= 400}), (own, {"failed_if": None})):
        async with session(used, **options) as client:
            for status in (503, 404, 418):
                async with client.get(f"{server.url}/status/{status}") as response:
                    await response.read()
    assert ends(policy) == (2, 1, 0)
    assert ends(strict) == (0, 3, 0)
    assert ends(own) == (2, 1, 0)


async def test_a_broken_failed_if_means_ignored(server: Misbehaving) -> None:
    """A rule that raises changes no request."""
    policy = breaker()
    async with session(policy, failed_if=lambda response: response.nothing) as client:
        async with client.get(server.url + "/ok") as response:
            assert await response.read() == b"ok"
        async with client.get(server.url + "/drip") as response:
            assert await response.read() == b"xxxxx"
    assert ends(policy) == (0, 0, 2)


@pytest.mark.parametrize(
    "query", ["retry-after=40", "retry-after=@40", "retry-after-ms=40000"], ids=["seconds", "date", "milliseconds"]
)
async def test_a_breaker_stays_open_as_long_as_retry_after_asks(server: Misbehaving, query: str) -> None:
    """Each form of Retry-After reaches the breaker that the failure opens."""
    policy = resilio.circuit_breaker(consecutive=1, open_for=1.0)
    async with session(policy) as client:
        async with client.get(f"{server.url}/status/500?{query}") as response:
            await response.read()
        with pytest.raises(resilio.CircuitOpenError) as caught:
            await client.get(server.url + "/ok")
    assert caught.value.retry_after is not None
    assert 30 < caught.value.retry_after <= 60


async def test_a_redirect_passes_the_policy_once_more(server: Misbehaving) -> None:
    """Both requests are counted; neither is a failure, nor left unsettled."""
    policy = breaker()
    async with session(policy) as client, client.get(server.url + "/redirect?to=/drip") as response:
        assert await response.read() == b"xxxxx"
        assert len(response.history) == 1
    assert ends(policy) == (2, 0, 0)


async def test_cb16_the_callers_mistakes_say_nothing(server: Misbehaving) -> None:
    """CB-16: an URL that is none, a body that raises, a rejection and a full pool are not the server's failures."""
    policy = breaker()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        raise KeyError("the caller's")

    async def wrong(request: Any, handler: Callable[[Any], Any]) -> Any:
        if request.url.path == "/type":
            raise TypeError("the caller's")
        if request.url.path == "/rejected":
            raise resilio.RateLimitedError("rate_limit")
        raise aiohttp.InvalidURL(request.url)

    async with session(policy) as client:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(server.url + "/ok", data=body())
    mine = middleware(policy)
    async with aiohttp.ClientSession(middlewares=(mine, wrong)) as client:
        for path, kind in (("/type", TypeError), ("/rejected", resilio.RateLimitedError), ("/", aiohttp.InvalidURL)):
            with pytest.raises(kind):
                await client.get(server.url + path)
    assert ends(policy) == (0, 0, 4)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "mine"), ConnectionResetError("mine"), TimeoutError("mine")])
async def test_cb16_a_body_that_cannot_be_read_says_nothing(server: Misbehaving, error: OSError) -> None:
    """CB-16: aiohttp tells an OSError of the caller's file as it tells one of the connection."""
    policy = breaker()

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise error

    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        raise error

    async with session(policy) as client:
        for body in (File(b"all"), parts()):
            with pytest.raises((aiohttp.ClientOSError, TimeoutError)):
                await client.post(server.url + "/ok", data=body)
    assert ends(policy) == (0, 0, 2)


async def test_a_server_that_goes_while_a_body_is_sent_has_failed() -> None:
    """The OSError is the connection's, met where the body is written."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)

    policy = breaker()
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening, session(policy) as client:
        host, port = listening.sockets[0].getsockname()
        with pytest.raises(aiohttp.ClientError):
            await client.post(f"http://{host}:{port}/", data=endless())
    assert ends(policy) == (0, 1, 0)


@pytest.mark.parametrize("limit", [{"connect": 0.05}, {"total": 0.05}])
async def test_cb16_waiting_for_the_pool_says_nothing(server: Misbehaving, limit: dict[str, float]) -> None:
    """CB-16: aiohttp has one error for a pool without a free connection and a server that does not answer."""
    policy = breaker()
    limited = aiohttp.TCPConnector(limit=1)
    async with session(policy, connector=limited) as client, client.get(server.url + "/hang-mid-body"):
        with pytest.raises(asyncio.TimeoutError):
            await client.get(server.url + "/ok", timeout=aiohttp.ClientTimeout(**limit))
        assert policy.snapshot().ignored == 1
        assert policy.snapshot().failures == 0
    assert server.requests["/ok"] == 0


async def test_cb20_a_rejection_is_an_error_of_the_client_and_no_leaf() -> None:
    """CB-20: `except aiohttp.ClientError` catches it, and what retries lost connections does not."""
    policy = resilio.circuit_breaker("aiohttp-cb20")
    policy.force_open()
    async with session(policy) as client:
        with pytest.raises(aiohttp.ClientError) as caught:
            await client.get("http://127.0.0.1:1/")
    error = caught.value
    assert isinstance(error, resilio.CircuitOpenError)
    assert not isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientResponseError, OSError))
    assert (error.policy, error.name, error.reason, error.called) == (
        "circuit_breaker",
        "aiohttp-cb20",
        "forced_open",
        False,
    )


@pytest.mark.parametrize("kind", ["BulkheadFull", "CircuitOpen", "Overloaded", "RateLimited", "Rejected"])
async def test_rejections_keep_all_they_know(kind: str, server: Misbehaving) -> None:
    """Each class of rejections has its counterpart, which pickles with all its fields and notes."""
    ours = getattr(errors, f"{kind}Error")

    async def reject(request: Any, handler: Callable[[Any], Any]) -> Any:
        error = ours("some", "name", "why", 3.0, 2.0, 1.5)
        error.add_note("a note")
        raise error from KeyError("cause")

    async with aiohttp.ClientSession(middlewares=(middleware(breaker()), reject)) as client:
        with pytest.raises(ours) as caught:
            await client.get(server.url)
    error = caught.value
    assert isinstance(error, aiohttp.ClientError)
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert isinstance(one, aiohttp.ClientError)
        fields = (one.policy, one.name, one.reason, one.measured, one.limit, one.retry_after)
        assert fields == ("some", "name", "why", 3.0, 2.0, 1.5)
        assert "a note" in one.__notes__
    assert isinstance(error.__cause__, KeyError)


async def test_a_breaker_for_each_host(server: Misbehaving) -> None:
    """A host that is down does not shut out another."""
    policy = resilio.keyed(lambda: resilio.circuit_breaker(consecutive=1), key=host)
    async with session(policy) as client:
        with closed_port() as port:
            down = f"http://127.0.0.1:{port}/"
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(down)
            with pytest.raises(resilio.CircuitOpenError):
                await client.get(down)
            async with client.get(server.url + "/ok") as response:
                assert await response.read() == b"ok"
        assert {key: one.snapshot().state for key, one in policy.items()} == {
            f"127.0.0.1:{port}": "open",
            f"127.0.0.1:{server.port}": "closed",
        }


async def test_the_deadline_is_told_only_if_asked_for(server: Misbehaving) -> None:
    """`send_deadline=True` sends the seconds that are left, and nothing where there is no deadline."""
    policy = breaker()
    for told in (False, True, "x-left-ms"):
        async with session(policy, send_deadline=told) as client:
            with resilio.deadline(3600.0):
                await (await client.get(server.url + "/ok")).read()
            await (await client.get(server.url + "/ok")).read()
    said = [headers.get("x-request-timeout") for headers in server.seen]
    assert 1800 < float(said[2] or 0) <= 3600
    assert said[:2] + said[3:] == [None] * 5
    assert 1_800_000 < float(server.seen[4]["x-left-ms"]) <= 3_600_000


async def test_a_deadline_that_ends_a_body_says_nothing(server: Misbehaving) -> None:
    """The server is not to blame for a caller that had little time; the permit is back."""
    policy = breaker()
    async with session(policy) as client:
        with pytest.raises(resilio.DeadlineExceededError):
            async with resilio.deadline(0.3), client.get(server.url + "/hang-mid-body") as response:
                await response.read()
    assert ends(policy) == (0, 0, 1)


async def test_a_passed_deadline_sends_nothing(server: Misbehaving) -> None:
    """What the policy knows to be too late is not begun."""
    policy = resilio.pipeline(resilio.deadline(1.0), breaker())
    async with session(policy) as client:
        with resilio.deadline(0.0), pytest.raises(resilio.DeadlineExceededError):
            await client.get(server.url + "/ok")
    assert server.total == 0


async def test_the_ledger_knows_connect_first_byte_and_body(server: Misbehaving) -> None:
    """What a guarded function waits for in a request is told apart, with gates alone and with strategies."""
    for policy in (breaker(), resilio.pipeline(resilio.retry(on=aiohttp.ClientError), breaker())):
        async with session(policy) as client:

            @resilio.bulkhead(5)
            async def fetch(client: Any = client) -> Any:
                async with client.get(server.url + "/drip") as response:
                    await response.read()
                current = resilio.current()
                assert current is not None
                return current.segments

            found = await fetch()
        assert found.connect > 0
        assert found.first_byte > 0
        assert found.body > 0.01


async def test_two_middlewares_may_guard_one_session(server: Misbehaving) -> None:
    """The outer one retries what the inner one lets out, and each knows when the request is sent."""
    inner = breaker()
    retry = resilio.retry(on=aiohttp.ClientError, backoff=0.0, budget=None)
    guards = (middleware(retry), middleware(resilio.pipeline(retry, inner)))
    async with aiohttp.ClientSession(middlewares=guards) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            await client.post(server.url + "/reject", data=b"a")
    assert server.total == 1
    assert caught.value.resilio.stop_reason == "not_replayable"
    assert ends(inner) == (0, 1, 0)


@pytest.mark.untraced
def test_it_works_on_uvloop(server: Misbehaving) -> None:
    """The other event loop that people use: what ends, dies and is dropped gives its permit back."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    policy = breaker()

    async def main() -> None:
        async with session(policy) as client:
            async with client.get(server.url + "/drip") as response:
                await response.read()
            with pytest.raises(aiohttp.ClientError):
                await (await client.get(server.url + "/die-mid-body")).read()
            response = await client.get(server.url + "/hang-mid-body")
            del response
            gc.collect()
            assert policy.snapshot().abandoned == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert ends(policy) == (1, 1, 1)


def test_options_are_checked() -> None:
    """Each wrong option is named with its value."""
    policy = breaker()
    with pytest.raises(TypeError, match="policy must be a policy"):
        middleware(lambda request: request)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give `total`"):
        middleware(resilio.pipeline(policy, resilio.timeout(first=1.0)))
    with pytest.raises(TypeError, match="idempotent must be True, False, a function"):
        middleware(policy, idempotent="GET")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="failed_if"):
        middleware(policy, failed_if=503)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="send_deadline"):
        middleware(policy, send_deadline=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="send_deadline"):
        middleware(policy, send_deadline="two words")


def test_a_middleware_shows_its_policy() -> None:
    """Its policy can be had, and its repr names it."""
    policy = resilio.circuit_breaker("aiohttp-shown")
    made = middleware(policy)
    assert made.policy is policy
    assert "aiohttp-shown" in repr(made)
