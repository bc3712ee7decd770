"""Transports under guard against a server that misbehaves: httpx and httpx2, on asyncio, on trio, in threads."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import itertools
import json
import os
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
from measured import measured
from servers.misbehaving import LONGEST_WAIT, Exchange, Misbehaving, closed_port

import resilio
from resilio import (
    bulkhead,
    circuit_breaker,
    deadline,
    fallback,
    hedge,
    keyed,
    load_shed,
    pipeline,
    presets,
    rate_limit,
    retry,
    standard,
    timeout,
)
from resilio.integrations.httpx import AsyncTransport, Transport, guard_client, host

CLIENTS = ("httpx", "httpx2")
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""httpx leaves the generators that it stacks unclosed where a stream is left; trio complains of each, guard or no."""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Any:
    """The module: httpx, or httpx2."""
    try:
        return importlib.import_module(request.param)
    except ImportError:  # pragma: no cover
        pytest.skip(f"{request.param} is not installed")


def bad(response: Any) -> bool:
    """A status that says the server is unwell."""
    return bool(response.status_code >= 500)


def breaker_of(**options: Any) -> Any:
    """A breaker that takes a 5xx for a failure."""
    return circuit_breaker(**{"failed_if": bad, **options})


def counted(policy: Any) -> dict[str, int]:
    """What a policy has counted, but for what is zero."""
    shown = policy.snapshot()
    names = ("inflight", "successes", "failures", "ignored", "rejected", "cancelled", "abandoned")
    return {name: getattr(shown, name) for name in names if getattr(shown, name)}


def opened(client: Any, policy: Any, **options: Any) -> Any:
    """An async client under guard; it has the patience of the server, since a busy machine is no fault of either."""
    return client.AsyncClient(transport=AsyncTransport(policy, client=client, **options), timeout=LONGEST_WAIT)


def quick(**options: Any) -> Any:
    """A retry that does not wait."""
    return retry(**{"backoff": 0.0, "on": Exception, "budget": None, **options})


async def in_thread(http: Any, method: str, url: str, **options: Any) -> Any:
    """The response to a request that a thread makes; then its client is closed."""
    with http:
        return await anyio.to_thread.run_sync(lambda: http.request(method, url, **options))


# ---- faults, and what a breaker learns -------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str | None, dict[str, int]]] = {
    "ok": ("/ok", None, {"successes": 1}),
    "empty": ("/empty", None, {"successes": 1}),
    "zipped": ("/gzip", None, {"successes": 1}),
    "dripping": ("/drip?n=3", None, {"successes": 1}),
    "503": ("/status/503?retry-after=1", None, {"failures": 1}),
    "529": ("/status/529?retry-after-ms=5", None, {"failures": 1}),
    "429": ("/status/429?retry-after=@7", None, {"successes": 1}),
    "error in 200": ("/error-in-200", None, {"successes": 1}),
    "no answer": ("/reject", "RemoteProtocolError", {"failures": 1}),
    "cut": ("/die-mid-body", "RemoteProtocolError", {"failures": 1}),
    "reset": ("/die-mid-body?reset=1", "ReadError", {"failures": 1}),
    "hangs before headers": ("/reject-headers", "ReadTimeout", {"failures": 1}),
    "hangs in the body": ("/hang-mid-body", "ReadTimeout", {"failures": 1}),
}


def patience(client: Any, path: str) -> Any:
    """Little for what hangs."""
    return client.Timeout(30.0, read=0.05 if "hang" in path or "headers" in path else 30.0)


def proved(server: Misbehaving, path: str) -> None:
    """The server did what the path says."""
    path = path.partition("?")[0]
    assert server.requests[path] == 1
    if path in ("/reject", "/die-mid-body"):
        assert server.cut[path] == 1
    elif path in ("/reject-headers", "/hang-mid-body"):
        assert server.hung[path] == 1
        server.until(lambda: server.left[path] == 1)
    else:
        server.until(lambda: server.answered[path] == 1)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_judged_when_the_body_ends(client: Any, server: Misbehaving, fault: str) -> None:
    """A fault raises what it raises without a guard, is a failure for the breaker, once, and holds nothing."""
    path, error, learned = FAULTS[fault]
    breaker, raised = breaker_of(), None
    async with opened(client, breaker) as http:
        try:
            await http.get(server.url + path, timeout=patience(client, path))
        except client.TransportError as caught:
            raised = type(caught).__name__
    assert (raised, counted(breaker)) == (error, learned)
    proved(server, path)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_judged_in_threads(client: Any, server: Misbehaving, fault: str) -> None:
    """The same for the transport of threads."""
    path, error, learned = FAULTS[fault]
    breaker, raised = breaker_of(), None
    with client.Client(transport=Transport(breaker, client=client)) as http:
        try:
            http.get(server.url + path, timeout=patience(client, path))
        except client.TransportError as caught:
            raised = type(caught).__name__
    assert (raised, counted(breaker)) == (error, learned)
    proved(server, path)


@pytest.mark.anyio
async def test_a_rejected_connection_is_a_failure(client: Any) -> None:
    """Nobody listens: that is the dependency's."""
    breaker = breaker_of()
    with closed_port() as port:
        async with opened(client, breaker) as http:
            with pytest.raises(client.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/")
        with client.Client(transport=Transport(breaker, client=client)) as threads, pytest.raises(client.ConnectError):
            threads.get(f"http://127.0.0.1:{port}/")
    assert counted(breaker) == {"failures": 2}


# ---- CB-16: the caller's own mistakes --------------------------------------------------------------------------------


@UNCLOSED
@pytest.mark.anyio
async def test_cb16_caller_mistakes_are_not_dependency_failures(client: Any, server: Misbehaving) -> None:
    """CB-16: unsupported schemes, bad requests and a full pool do not open a breaker, whatever `on` says of them."""
    breaker = circuit_breaker(consecutive=1, on=Exception)
    pool = client.AsyncHTTPTransport(limits=client.Limits(max_connections=1))
    async with client.AsyncClient(transport=AsyncTransport(breaker, pool)) as http:
        with pytest.raises(client.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1/")
        with pytest.raises(client.LocalProtocolError):
            await http.get(server.url + "/ok", headers={"x-bad": "line\nbreak"})
        async with http.stream("GET", server.url + "/drip?n=0"):
            with pytest.raises(client.PoolTimeout):
                await http.get(server.url + "/ok", timeout=client.Timeout(5.0, pool=0.05))
    assert breaker.state == "closed"
    assert counted(breaker) == {"ignored": 4}  # and the stream that was left


@pytest.mark.anyio
async def test_cb16_a_full_pool_is_no_verdict_on_a_probe(client: Any, server: Misbehaving, vt: Any) -> None:
    """CB-16: a probe that got no connection says nothing: the breaker stays half open, and the next one is let in."""
    breaker = circuit_breaker(consecutive=1, open_for=1.0)
    breaker.acquire().failure()
    vt.advance(2.0)

    def answer(request: Any) -> Any:
        if request.url.path == "/busy":
            raise client.PoolTimeout("all connections are in use", request=request)
        return client.Response(200)

    async with client.AsyncClient(transport=AsyncTransport(breaker, client.MockTransport(answer))) as http:
        with pytest.raises(client.PoolTimeout):
            await http.get("http://host/busy")
        assert breaker.state == "half_open"
        for _ in range(2):
            await http.get("http://host/")
    assert breaker.state == "closed"
    assert server.total == 0


def test_cb16_in_threads(client: Any) -> None:
    """CB-16: the same for the transport of threads."""
    breaker = circuit_breaker(consecutive=1)
    with client.Client(transport=Transport(breaker, client=client)) as http, pytest.raises(client.UnsupportedProtocol):
        http.get("ftp://127.0.0.1/")
    assert counted(breaker) == {"ignored": 1}


@UNCLOSED
@pytest.mark.anyio
async def test_a_body_that_raises_is_no_failure_of_who_was_to_have_it(client: Any, server: Misbehaving) -> None:
    """What a request's own body raises, or has too much of, says nothing about the server."""

    async def raising(error: Exception) -> AsyncIterator[bytes]:
        yield b"some"
        raise error

    breaker = circuit_breaker(consecutive=1)
    async with opened(client, breaker) as http:
        for mine in (OSError("mine"), client.ReadError("mine: of the answer that the body is read from")):
            with pytest.raises(type(mine), match="mine"):
                await http.post(server.url + "/ok", content=raising(mine))
        with pytest.raises(Exception, match="Too much data"):
            await http.post(server.url + "/ok", content=pieces(), headers={"content-length": "1"})
    assert counted(breaker) == {"ignored": 3}


@pytest.mark.anyio
async def test_what_breaks_http2_is_the_servers_mistake(client: Any, server: Misbehaving) -> None:
    """The clients call it a LocalProtocolError, as they do mistakes of the caller."""

    async def data_of_no_stream(exchange: Any) -> None:
        settings, data = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), bytes(9)
        await exchange.raw(settings + data)
        await exchange.hang()

    server.routes["*"] = data_of_no_stream  # which the preface of HTTP/2 asks for
    breaker = circuit_breaker(consecutive=1)
    pool = client.AsyncHTTPTransport(http1=False, http2=True)
    async with client.AsyncClient(transport=AsyncTransport(breaker, pool)) as http:
        with pytest.raises(client.LocalProtocolError):
            await http.get(server.url + "/ok")
    assert counted(breaker) == {"failures": 1}


@pytest.mark.anyio
async def test_an_answer_that_goaway_breaks_off_is_a_failure(client: Any, server: Misbehaving) -> None:
    """
    What says so is httpcore's own, as without a guard, and no error of the client's: presets took it for a success.

    The server had begun to answer, so it is tried again only where a call may be made twice.
    """

    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    async def goes_away(exchange: Any) -> None:
        async def asked(stream: int) -> None:
            kind, which = 0, 0
            while (kind, which) != (1, stream):
                head = await exchange.reader.readexactly(9)
                kind, which = head[3], int.from_bytes(head[5:], "big")
                await exchange.reader.readexactly(int.from_bytes(head[:3], "big"))

        ok, part, last = b"\x88", b"part", (1).to_bytes(4, "big") + bytes(4)
        await exchange.reader.readexactly(len(b"SM\r\n\r\n"))
        await exchange.raw(frame(4, 0, 0))
        await asked(1)
        await exchange.raw(frame(1, 5, 1, ok))
        await asked(3)
        await exchange.raw(frame(1, 4, 3, ok) + frame(0, 0, 3, part) + frame(7, 0, 0, last))
        await exchange.hang()

    server.routes["*"] = goes_away
    breaker = circuit_breaker(on=presets.http.failing)
    pool = client.AsyncHTTPTransport(http1=False, http2=True)
    async with client.AsyncClient(transport=AsyncTransport(breaker, pool)) as http:
        await http.get(server.url + "/ok")
        with pytest.raises(Exception) as caught:
            await http.get(server.url + "/ok")
    assert type(caught.value).__name__ == "ConnectionNotAvailable"
    assert counted(breaker) == {"successes": 1, "failures": 1}
    assert presets.http.momentary(caught.value)
    assert not presets.http.unsent(caught.value)


@UNCLOSED
@pytest.mark.anyio
async def test_a_stream_that_is_reset_under_an_upload_is_the_servers_doing(client: Any, server: Misbehaving) -> None:
    """The clients go on sending, and call that a LocalProtocolError as well."""

    async def reset_first_stream(exchange: Any) -> None:
        await exchange.reader.readexactly(65_535)  # as much as it may send before it has to look
        settings, reset = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), bytes((0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7))
        more = [bytes((0, 0, 4, 8, 0, 0, 0, 0, stream, 0, 1, 0, 0)) for stream in (0, 1)]
        await exchange.raw(settings + b"".join(more) + reset)
        await exchange.hang()

    server.routes["*"] = reset_first_stream
    breaker = circuit_breaker(consecutive=1)
    pool = client.AsyncHTTPTransport(http1=False, http2=True)
    async with client.AsyncClient(transport=AsyncTransport(breaker, pool)) as http:
        with pytest.raises(client.LocalProtocolError):
            await http.post(server.url + "/ok", content=bytes(100_000))
    assert counted(breaker) == {"failures": 1}


# ---- CB-20: rejections
# -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_cb20_a_rejection_is_a_transport_error_and_no_leaf(client: Any, server: Misbehaving) -> None:
    """CB-20: `except TransportError` catches a rejection, retries on ConnectError or ReadTimeout do not match it."""
    breaker = breaker_of(name="payments")
    breaker.force_open()
    async with opened(client, breaker) as http:
        with pytest.raises(client.TransportError) as caught:
            await http.get(server.url + "/ok")
    error = caught.value
    assert isinstance(error, resilio.CircuitOpenError)
    leaves = (client.NetworkError, client.TimeoutException, client.ProtocolError, client.ProxyError)
    assert not isinstance(error, leaves)
    assert not isinstance(error, client.UnsupportedProtocol)
    assert (error.policy, error.name, error.reason, error.called) == (
        "circuit_breaker",
        "payments",
        "forced_open",
        False,
    )
    assert error.request.url.path == "/ok"
    assert str(error) == "circuit_breaker 'payments' rejected the call: forced_open"
    assert server.total == 0


def test_cb20_a_rejection_survives_a_pickle(client: Any, server: Misbehaving) -> None:
    """CB-20: in another process it still is both, and says the same."""
    limit = rate_limit("1/s", name="model")
    with client.Client(transport=Transport(limit, client=client)) as http:
        http.get(server.url + "/ok")
        with pytest.raises(client.TransportError) as caught:
            http.get(server.url + "/ok")
    error: Any = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is type(caught.value)
    assert isinstance(error, resilio.RateLimitedError)
    assert error.retry_after == caught.value.retry_after > 0  # type: ignore[attr-defined]
    assert error.request.method == "GET"


@pytest.mark.anyio
async def test_cb20_a_retry_outside_does_not_repeat_a_rejection(client: Any, server: Misbehaving) -> None:
    """CB-20: a retry around the function that lists the leaves runs it once."""
    breaker = breaker_of()
    breaker.force_open()
    tried: list[int] = []
    async with opened(client, breaker) as http:

        @retry(on=(client.ConnectError, client.ReadTimeout, client.RemoteProtocolError), backoff=0.0)
        async def fetch() -> Any:
            tried.append(1)
            return await http.get(server.url + "/ok")

        with pytest.raises(resilio.CircuitOpenError):
            await fetch()
    assert len(tried) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (breaker_of, 503),
        (lambda: rate_limit("1/h"), 429),
        (lambda: bulkhead(1), 503),
        (lambda: deadline(0.001), 504),
    ],
)
async def test_a_rejection_can_be_a_response(client: Any, server: Misbehaving, policy: Any, status: int) -> None:
    """With `on_reject="respond"` the caller gets a response that tells SDKs not to come back at once."""
    guard = policy()
    held = guard.try_acquire() if status != 504 else None
    if isinstance(guard, resilio.CircuitBreaker):
        guard.force_open()
    path = "/reject-headers" if status == 504 else "/ok"
    async with opened(client, guard, on_reject="respond") as http:
        response = await http.get(server.url + path)
    assert response.status_code == status
    assert response.headers["x-should-retry"] == "false"
    assert ("retry-after" in response.headers) == (status != 504)
    rejection = response.extensions["resilio_rejection"]
    assert response.text == str(rejection)
    assert isinstance(rejection, resilio.ResilienceError)
    assert not server.requests["/ok"]
    del held


@pytest.mark.anyio
async def test_a_timeout_is_the_clients_timeout_too(client: Any, server: Misbehaving) -> None:
    """Whoever catches the client's timeouts catches the policy's; it says which clock it was, and is no rejection."""
    breaker = breaker_of()
    async with opened(client, pipeline(breaker, timeout(0.2)), on_reject="respond") as http:
        with pytest.raises(client.TimeoutException) as caught:
            await http.get(server.url + "/reject-headers")
    error: Any = caught.value
    assert isinstance(error, resilio.CallTimeoutError)
    assert (error.clock, error.limit, error.called) == ("total", 0.2, True)
    assert counted(breaker) == {"failures": 1}
    server.until(lambda: server.left["/reject-headers"] == 1)


@pytest.mark.anyio
async def test_a_passed_deadline_is_a_transport_error(client: Any, server: Misbehaving) -> None:
    """A deadline ends the request; what is raised is the client's as well."""
    room = bulkhead(1)
    async with opened(client, pipeline(deadline(0.05), room)) as http:
        with pytest.raises(client.TransportError) as caught:
            await http.get(server.url + "/reject-headers")
    assert isinstance(caught.value, resilio.DeadlineExceededError)
    assert counted(room) == {"ignored": 1}


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_permit_lasts_to_the_end_of_the_body(client: Any, server: Misbehaving) -> None:
    """At the headers the permit is held, at the body's last byte it is free: not before, and not later."""
    room = bulkhead(1)
    async with opened(client, room) as http:
        async with http.stream("GET", server.url + "/drip?n=3") as response:
            assert counted(room) == {"inflight": 1}
            assert not room.try_acquire()
            async for part in response.aiter_raw():
                assert part
            assert counted(room) == {"successes": 1, "rejected": 1}
        assert counted(room) == {"successes": 1, "rejected": 1}


@UNCLOSED
@pytest.mark.anyio
async def test_a_body_that_is_left_says_nothing(client: Any, server: Misbehaving) -> None:
    """Whoever breaks off a stream has no complaint: the permit is back, the outcome is none, nothing is abandoned."""
    room = bulkhead(1)
    async with opened(client, room) as http:
        async with http.stream("GET", server.url + "/drip?n=0") as response:
            async for _ in response.aiter_raw():
                break
        assert counted(room) == {"ignored": 1}
        async with http.stream("GET", server.url + "/drip?n=0"):
            pass  # never begun
    assert counted(room) == {"ignored": 2}


@pytest.mark.anyio
async def test_a_bad_status_is_a_failure_even_if_its_body_is_left(client: Any, server: Misbehaving) -> None:
    """`raise_for_status()` leaves the body of a 503 unread: it is a failure all the same."""
    breaker = breaker_of()
    async with opened(client, breaker) as http:
        with pytest.raises(client.HTTPStatusError):
            async with http.stream("GET", server.url + "/status/503") as response:
                response.raise_for_status()
    assert counted(breaker) == {"failures": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_response_without_a_body_is_complete(client: Any, server: Misbehaving, method: str) -> None:
    """What has no body is a success, whether or not somebody reads it."""
    breaker = breaker_of()
    server.routes["/none"] = lambda exchange: exchange.answer(b"")
    paths = ("/ok",) if method == "HEAD" else ("/empty", "/none")
    async with opened(client, breaker) as http:
        for path in paths:
            async with http.stream(method, server.url + path):
                pass
            await http.request(method, server.url + path)
    assert counted(breaker) == {"successes": 2 * len(paths)}


@pytest.mark.anyio
async def test_reading_twice_settles_once(client: Any, server: Misbehaving) -> None:
    """`aread` a second time, and `aclose` after it, change nothing."""
    breaker = breaker_of()
    async with opened(client, breaker) as http:
        request = http.build_request("GET", server.url + "/gzip?size=100")
        response = await http.send(request, stream=True)
        assert await response.aread() == await response.aread() == b"x" * 100
        await response.aclose()
        await response.aclose()
    assert counted(breaker) == {"successes": 1}


@pytest.mark.anyio
async def test_a_second_reader_ends_nothing(client: Any, server: Misbehaving) -> None:
    """It is told that the body is being read; that says nothing of the dependency, and the first one's permit stays."""
    breaker, room = breaker_of(), bulkhead(1)
    async with (
        opened(client, pipeline(breaker, room)) as http,
        http.stream("GET", server.url + "/hang-mid-body") as answer,
    ):
        body = answer.extensions["resilio_held"].__aiter__()
        assert await anext(body)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, body)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="already running"):
                await anext(body)
            assert (counted(breaker), counted(room)) == ({"inflight": 1}, {"inflight": 1})
            tasks.cancel_scope.cancel()
    assert (counted(breaker), counted(room)) == ({"ignored": 1}, {"ignored": 1})


async def _upgrade(exchange: Exchange) -> None:
    await exchange.raw(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: mine\r\n\r\n")
    await exchange.hang()


@pytest.mark.parametrize("more", [(), (retry(on=OSError),)], ids=["gates", "strategies"])
@pytest.mark.anyio
async def test_an_upgraded_connection_is_a_success_when_it_is_closed(
    client: Any, server: Misbehaving, more: tuple[Any, ...]
) -> None:
    """It has no body that could end: whoever closes it has had what there was. Its permit is held until then."""
    breaker = breaker_of()
    server.routes["/upgrade"] = _upgrade
    headers = {"connection": "upgrade", "upgrade": "mine"}
    async with opened(client, pipeline(*more, breaker)) as http:
        async with http.stream("GET", server.url + "/upgrade", headers=headers) as response:
            assert response.status_code == 101
            assert counted(breaker) == {"inflight": 1}
            await response.extensions["network_stream"].aclose()
        assert counted(breaker) == {"successes": 1}


@UNCLOSED
@pytest.mark.anyio
async def test_a_cancelled_body_gives_its_permit_back(client: Any, server: Misbehaving) -> None:
    """A task that is cancelled while it reads is no outcome; its permit is free when it has ended."""
    room = bulkhead(1)
    hanging = server.url + "/hang-mid-body"
    async with opened(client, room) as http, http.stream("GET", hanging, timeout=None) as response:
        body = response.aiter_raw()
        assert await anext(body)
        with anyio.move_on_after(0.05) as scope:
            await anext(body)
        assert scope.cancelled_caught
        assert counted(room) == {"ignored": 1}
    server.until(lambda: server.left["/hang-mid-body"] == 1)


@pytest.mark.anyio
async def test_an_abandoned_response_comes_back_when_it_is_collected(client: Any, server: Misbehaving) -> None:
    """A response that nobody reads or closes gives its permit back, and is counted as abandoned."""
    room = bulkhead(1)
    transport = AsyncTransport(room, client=client)
    async with client.AsyncClient(transport=transport) as http:
        response = await http.send(http.build_request("GET", server.url + "/ok"), stream=True)
        body = response.extensions["resilio_held"]
        inner = body._inner
        assert counted(room) == {"inflight": 1}
        del response, body
        gc.collect()
        assert counted(room) == {"ignored": 1, "abandoned": 1}
        await inner.aclose()  # the connection is the client's, and would be lost to its pool


_rooms = map("room {}".format, itertools.count())  # a line is logged once a minute for each name


@pytest.mark.anyio
async def test_the_next_request_logs_an_abandoned_response(
    client: Any, server: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    """A finaliser must not run handlers of logging, so the line about a dropped response comes with a later request."""
    room = bulkhead(2, name=next(_rooms))
    with caplog.at_level("WARNING", "resilio"):
        async with opened(client, room) as http:
            response = await http.send(http.build_request("GET", server.url + "/ok"), stream=True)
            inner = response.extensions["resilio_held"]._inner
            del response
            gc.collect()
            assert (counted(room), room.name in caplog.text) == ({"ignored": 1, "abandoned": 1}, False)
            await http.get(server.url + "/ok")
            assert room.name in caplog.text
            await inner.aclose()


def test_the_next_request_of_a_thread_logs_an_abandoned_response(
    client: Any, server: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for `Client`."""
    room = bulkhead(2, name=next(_rooms))
    with (
        caplog.at_level("WARNING", "resilio"),
        client.Client(transport=Transport(room, client=client), timeout=LONGEST_WAIT) as http,
    ):
        response = http.send(http.build_request("GET", server.url + "/ok"), stream=True)
        inner = response.extensions["resilio_held"]._inner
        del response
        gc.collect()
        assert (counted(room), room.name in caplog.text) == ({"ignored": 1, "abandoned": 1}, False)
        http.get(server.url + "/ok")
        assert room.name in caplog.text
        inner.close()


@pytest.mark.anyio
async def test_a_body_that_stalls_is_ended_by_the_idle_clock(client: Any, server: Misbehaving) -> None:
    """`timeout(idle=...)` bounds the time between two parts of a body, and says that it was that clock."""
    breaker = breaker_of()
    clocks = timeout(first=5.0, idle=5.0)
    async with opened(client, pipeline(breaker, clocks)) as http:
        await http.get(server.url + "/drip?n=3&every=0.001", timeout=None)
        clocks.reconfigure(idle=0.05)  # only now: a busy machine stops a body that does not stall for as long
        with pytest.raises(client.TimeoutException) as caught:
            await http.get(server.url + "/hang-mid-body", timeout=None)
    error: Any = caught.value
    assert isinstance(error, resilio.CallTimeoutError)
    assert (error.clock, error.limit) == ("idle", 0.05)
    assert counted(breaker) == {"successes": 1, "failures": 1}
    server.until(lambda: server.left["/hang-mid-body"] == 1)


@pytest.mark.anyio
async def test_headers_that_do_not_come_are_ended_by_the_first_clock(client: Any, server: Misbehaving) -> None:
    """`timeout(first=...)` bounds the time to the headers."""
    breaker = breaker_of()
    async with opened(client, pipeline(breaker, timeout(first=0.05, idle=5.0))) as http:
        with pytest.raises(client.TimeoutException) as caught:
            await http.get(server.url + "/reject-headers", timeout=None)
    assert caught.value.clock == "first"  # type: ignore[attr-defined]
    assert counted(breaker) == {"failures": 1}


# ---- retries, hedges, fallbacks --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_rt09_a_failed_response_is_closed_before_the_retry_sleeps(client: Any, server: Misbehaving) -> None:
    """RT-09: while a retry waits, neither a permit nor a connection is held by what has failed."""
    room = bulkhead(1)
    async with opened(client, pipeline(retry(on=OSError, failed_if=bad, backoff=50.0), room)) as http:
        pool = http._transport._inner._pool
        async with anyio.create_task_group() as group:
            group.start_soon(http.get, server.url + "/status/503")

            def free() -> bool:
                return counted(room) == {"failures": 1} and all(one.is_idle() for one in pool.connections)

            while not free():  # noqa: ASYNC110 - nothing tells when: it comes while the retry waits, or never
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert counted(room) == {"failures": 1}
    assert server.total == 1


@pytest.mark.anyio
async def test_retries_judge_by_headers_and_gates_by_bodies(client: Any, server: Misbehaving) -> None:
    """Bad answers are tried again; an attempt is a call for the gates inside, the whole is one for those outside."""
    breaker = breaker_of()
    outside = pipeline(quick(failed_if=bad), breaker)
    async with opened(client, outside) as http:
        response = await http.get(server.url + "/status/503?times=2")
    assert response.status_code == 200
    assert counted(breaker) == {"failures": 2, "successes": 1}
    assert counted(outside) == {"successes": 1}


@pytest.mark.anyio
async def test_the_last_bad_answer_is_the_callers(client: Any, server: Misbehaving) -> None:
    """Where retries give up, the answer is there to be read, and its permits are held until it has been."""
    room = bulkhead(1)
    stack = pipeline(quick(failed_if=bad, attempts=2), room)
    async with opened(client, stack) as http, http.stream("GET", server.url + "/status/503") as response:
        assert counted(room) == {"failures": 1, "inflight": 1}
        assert await response.aread() == b"no"
    assert counted(room) == {"failures": 2}
    assert server.requests["/status/503"] == 2


@pytest.mark.anyio
@pytest.mark.parametrize("said", ["retry-after=1", "retry-after-ms=1000", "retry-after=@1", "retry-after=1.0"])
async def test_retry_after_is_honoured_in_each_form(client: Any, server: Misbehaving, said: str) -> None:
    """A wait that the server asks for, and that exceeds the cap, ends the retries; its response says how long."""
    policy = quick(failed_if=lambda response: response.status_code == 429, max_retry_after=0.9)
    async with opened(client, policy) as http:
        response = await http.get(server.url + f"/status/429?{said}")
    assert response.status_code == 429
    assert policy.snapshot().stopped["retry_after"] == 1
    assert server.total == 1


@pytest.mark.anyio
async def test_x_should_retry_is_the_servers_word(client: Any, server: Misbehaving) -> None:
    """A server that says `x-should-retry: false` is asked once."""
    async with opened(client, quick(failed_if=bad)) as http:
        await http.get(server.url + "/status/503?x-should-retry=false")
    assert server.total == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "headers", "option", "sent"),
    [
        ("GET", {}, None, 3),
        ("PUT", {}, None, 3),
        ("POST", {}, None, 1),
        ("PATCH", {}, None, 1),
        ("POST", {"Idempotency-Key": "1"}, None, 3),
        ("POST", {}, True, 3),
        ("GET", {}, False, 1),
        ("POST", {}, lambda request: request.url.path == "/reject", 3),
        ("GET", {}, lambda request: request.method == "POST", 1),
        ("GET", {}, lambda request: request.no_such_thing, 1),  # what cannot say yes says no
    ],
)
async def test_what_must_not_be_done_twice_is_not_sent_twice(
    client: Any, server: Misbehaving, method: str, headers: dict[str, str], option: Any, sent: int
) -> None:
    """A request that has reached the server is tried again only if that does no harm; the rule can be the user's."""
    async with opened(client, quick(), idempotent=option) as http:
        with pytest.raises(client.RemoteProtocolError) as caught:
            await http.request(method, server.url + "/reject", headers=headers)
    assert server.requests["/reject"] == sent
    assert caught.value.resilio.stop_reason == ("not_replayable" if sent == 1 else "attempts")
    server.requests.clear()
    with client.Client(transport=Transport(quick(failed_if=bad), client=client, idempotent=option)) as threads:
        assert (
            await anyio.to_thread.run_sync(lambda: threads.request(method, server.url + "/status/500", headers=headers))
        ).is_error
    expected = 1 if callable(option) and method == "POST" else sent
    assert server.requests["/status/500"] == expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "body", "sent", "inside"),
    [
        ("POST", b"x", 1, "timeout"),
        ("PUT", b"x", 2, "breaker and timeout"),
        ("PUT", b"x", 2, "first"),
        ("PUT", None, 1, "timeout"),
    ],
)
async def test_what_a_timeout_has_ended_is_not_sent_twice_either(
    client: Any, server: Misbehaving, method: str, body: Any, sent: int, inside: str
) -> None:
    """The policy's own timeout is no error that the transport sees; the server has the request all the same."""
    ends = {"first": [timeout(first=0.2)], "timeout": [timeout(0.2)]}  # time enough to connect
    stages = ends.get(inside) or [circuit_breaker(), timeout(0.2)]
    async with opened(client, pipeline(quick(attempts=2), *stages)) as http:
        with pytest.raises(resilio.CallTimeoutError) as caught:
            await http.request(method, server.url + "/reject-headers", content=body or pieces())
    assert caught.value.resilio.stop_reason == ("not_replayable" if sent == 1 else "attempts")
    server.until(lambda: server.left["/reject-headers"] == sent)
    assert server.requests == {"/reject-headers": sent}


@pytest.mark.anyio
async def test_what_was_not_processed_is_sent_again_whatever_it_is(client: Any, server: Misbehaving) -> None:
    """A POST that was rejected by 429, or never connected, has done nothing."""
    policy = quick(failed_if=lambda response: response.status_code == 429)
    async with opened(client, policy) as http:
        assert (await http.post(server.url + "/status/429?times=1")).status_code == 200
        with closed_port() as port, pytest.raises(client.ConnectError):
            await http.post(f"http://127.0.0.1:{port}/")
    assert policy.snapshot().retries == 3
    assert server.requests["/status/429"] == 2


async def pieces() -> AsyncIterator[bytes]:
    """A body that can be read once."""
    yield b"once"


def parts() -> Iterator[bytes]:
    """The same for threads."""
    yield b"once"


@pytest.mark.anyio
async def test_a_body_that_is_gone_is_not_sent_again(client: Any, server: Misbehaving) -> None:
    """A request whose body is a stream is sent once; one of bytes, or of a form, as often as it takes."""
    file = (__file__, b"content")
    async with opened(client, quick(failed_if=bad), idempotent=True) as http:
        response = await http.post(server.url + "/status/503?times=1", content=pieces())
        assert (response.status_code, server.requests.pop("/status/503")) == (503, 1)
        for body in ({"content": b"bytes"}, {"data": {"a": "b"}}, {"files": {"f": file}}, {"json": [1]}):
            response = await http.post(server.url + "/status/503?times=1", **body)
            assert (response.status_code, server.requests.pop("/status/503")) == (200, 2)
    with client.Client(transport=Transport(quick(failed_if=bad), client=client, idempotent=True)) as threads:
        assert (
            await anyio.to_thread.run_sync(lambda: threads.post(server.url + "/status/500", content=parts()))
        ).is_error
    assert server.requests["/status/500"] == 1


def test_a_file_that_cannot_be_read_again_is_not_sent_empty(client: Any, server: Misbehaving) -> None:
    """A pipe has a method `seek`, which raises: a form with one is sent once."""
    bodies: list[bytes] = []

    async def fail(exchange: Any) -> None:
        bodies.append(exchange.body)
        await exchange.answer(status=503)

    server.routes["/upload"] = fail
    reads, writes = os.pipe()
    os.write(writes, b"content")
    os.close(writes)
    with (
        os.fdopen(reads, "rb") as pipe,
        client.Client(transport=Transport(quick(failed_if=bad), client=client, idempotent=True)) as http,
    ):
        form = http.build_request("POST", server.url + "/upload", files={"f": pipe})
        del form.headers["content-length"]  # the clients take the length of a pipe for 0
        form.headers["transfer-encoding"] = "chunked"
        assert http.send(form).status_code == 503
    assert [body.count(b"content") > 0 for body in bodies] == [True]


@pytest.mark.anyio
async def test_copies_do_not_share_a_file(client: Any, server: Misbehaving) -> None:
    """Two uploads of one file would move it under each other: a form with one is sent once, of bytes as any request."""

    async def slowly(exchange: Any) -> None:
        await anyio.sleep(0.1)
        await exchange.answer()

    async def once_there_are_two(exchange: Any) -> None:
        if server.requests["/form"] == 1:
            await exchange.hang()
        else:
            await exchange.answer()

    server.routes.update({"/upload": slowly, "/form": once_there_are_two})
    async with opened(client, measured(after=0.02)) as http:
        assert (await http.put(server.url + "/upload", files={"f": io.BytesIO(b"content")})).status_code == 200
        assert (await http.put(server.url + "/form", files={"f": b"content"})).status_code == 200
    assert server.requests == {"/upload": 1, "/form": 2}


@pytest.mark.anyio
async def test_the_loser_of_a_hedge_is_closed(client: Any, server: Misbehaving) -> None:
    """The slower copy's connection and permit are free; the winner's last to the end of its body."""
    room = bulkhead(5)
    slow: list[int] = []

    async def first_is_slow(exchange: Any) -> None:
        slow.append(1)
        if len(slow) == 1:
            await exchange.hang()
        else:
            await exchange.answer(b"quick")

    server.routes["/mixed"] = first_is_slow
    stack = pipeline(measured(after=0.02), room)
    async with opened(client, stack) as http:
        response = await http.get(server.url + "/mixed")
        assert response.content == b"quick"
        server.until(lambda: server.left["/mixed"] == 1)
        assert counted(room) == {"ignored": 1, "successes": 1}
        assert (await http.post(server.url + "/mixed")).content == b"quick"
    assert server.requests["/mixed"] == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    "gate",
    [
        lambda: bulkhead(1, max_queued=5, max_wait=10.0),
        lambda: load_shed(max_concurrent=2),  # keeps one free for what is more important
    ],
    ids=["waits for nothing", "may be rejected"],
)
async def test_copies_of_a_hedge_are_known_as_such_to_the_gates_inside(
    client: Any, server: Misbehaving, gate: Callable[[], Any]
) -> None:
    """A gate without room to spare rejects the copy at once, and only the primary is sent."""
    inner = gate()

    async def slow(exchange: Any) -> None:
        async with asyncio.timeout(LONGEST_WAIT):
            while not inner.snapshot().rejected:  # noqa: ASYNC110 - it happens in another thread
                await asyncio.sleep(0.001)
        await exchange.answer(b"slow")

    server.routes["/slow"] = slow
    async with opened(client, pipeline(measured(after=0.02), inner)) as http:
        response = await http.get(server.url + "/slow")
    assert response.content == b"slow"
    assert counted(inner) == {"successes": 1, "rejected": 1}
    assert server.requests["/slow"] == 1


@UNCLOSED
@pytest.mark.anyio
@pytest.mark.parametrize("primary", [503, 404])
async def test_a_hedge_copies_a_503_at_once_and_never_a_404(client: Any, server: Misbehaving, primary: int) -> None:
    """A 503 won the race, and its connection would stay open; an answer that is no failure is the caller's at once."""
    statuses = [primary, 200]

    async def by_turns(exchange: Any) -> None:
        await exchange.answer(b"answer", statuses.pop(0))

    server.routes["/turns"] = by_turns
    policy = measured(after=LONGEST_WAIT, failed_if=lambda response: response.status_code == 503)
    async with opened(client, policy) as http:
        response = await http.get(server.url + "/turns")
    assert response.status_code == (200 if primary == 503 else 404)
    assert server.requests["/turns"] == (2 if primary == 503 else 1)


@UNCLOSED
@pytest.mark.anyio
async def test_a_copy_that_answers_too_late_is_closed(client: Any, server: Misbehaving) -> None:
    """Two copies that both answer: the loser's response, which nobody sees, holds nothing."""
    room = bulkhead(5)
    made: list[Any] = []
    gate = anyio.Event()

    class Both(client.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            first = not made
            made.append(1)
            with anyio.CancelScope(shield=True):  # takes no notice of its cancellation
                if first:
                    await gate.wait()
                else:
                    gate.set()
            return client.Response(200, stream=Endless(client))

    stack = pipeline(measured(after=0.01), room)
    async with client.AsyncClient(transport=AsyncTransport(stack, Both())) as http, http.stream("GET", "http://host/"):
        await anyio.sleep(0.05)
        assert counted(room)["inflight"] == 1
    assert len(made) == 2
    assert counted(room) == {"ignored": 2}


def Endless(client: Any) -> Any:  # noqa: N802 - a class of a class
    """A body without end."""

    class Body(client.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"

    return Body()


@pytest.mark.anyio
async def test_a_fallbacks_answer_is_guarded_by_what_is_outside(client: Any, server: Misbehaving) -> None:
    """A response that a fallback has made ends what is held outside of it: at once, or with its body."""
    breaker = breaker_of()
    breaker.force_open()
    answers = [client.Response(200, content=b"old") for _ in range(2)]
    made = fallback(on=resilio.RejectedError, handler=lambda error: answers.pop())
    room = pipeline(made, breaker)
    async with opened(client, room) as http:
        assert (await http.get(server.url + "/ok")).content == b"old"
        answers.append(client.Response(200, stream=Endless(client)))
        async with http.stream("GET", server.url + "/ok"):
            assert counted(room) == {"successes": 1, "inflight": 1}
    assert counted(room) == {"successes": 1, "ignored": 1}
    with client.Client(transport=Transport(room, client=client)) as threads:
        assert threads.get(server.url + "/ok").content == b"old"
    assert server.total == 0


@pytest.mark.anyio
async def test_a_standard_stack_guards_a_client(client: Any, server: Misbehaving) -> None:
    """`standard(..., on="http")` retries what is unwell, and holds what it must: its parts count as they should."""
    stack = standard("service", on="http", idempotent=True, backoff=0.0)
    async with opened(client, stack) as http:
        assert (await http.get(server.url + "/status/503?times=1")).status_code == 200
    parts_of = {part.kind: part for part in stack.snapshot().parts}
    assert (parts_of["circuit_breaker"].failures, parts_of["circuit_breaker"].successes) == (1, 1)
    assert counted(stack) == {"successes": 1}
    threads = client.Client(transport=Transport(stack, client=client))
    assert (await in_thread(threads, "GET", server.url + "/ok")).status_code == 200
    assert counted(stack)["successes"] == 2
    assert await stack.adrain(1.0)


# ---- hosts, redirects, auth, HTTP ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_each_host_has_a_policy_of_its_own(client: Any, server: Misbehaving) -> None:
    """A host that is down does not shut out another; ports are told apart."""
    per_host = keyed(lambda: breaker_of(consecutive=1), key=host)
    async with opened(client, per_host) as http:
        with closed_port() as port:
            with pytest.raises(client.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/")
            with pytest.raises(resilio.CircuitOpenError):
                await http.get(f"http://127.0.0.1:{port}/")
        assert (await http.get(server.url + "/ok")).status_code == 200
    assert per_host[f"127.0.0.1:{server.port}"].state == "closed"
    assert per_host[f"127.0.0.1:{port}"].state == "open"
    assert host(client.Request("GET", "https://example.org/x")) == "example.org"


@pytest.mark.anyio
async def test_each_hop_of_a_redirect_passes_the_policy(client: Any, server: Misbehaving) -> None:
    """Redirects and auth flows are several requests, each with a permit of its own, one after the other."""
    room = bulkhead(1)
    async with opened(client, room) as http:
        response = await http.get(server.url + "/redirect?to=/redirect%3Fto=/ok", follow_redirects=True)
        assert len(response.history) == 2
        assert counted(room) == {"successes": 3}
        auth = client.DigestAuth("user", "password")
        server.routes["/digest"] = _digest
        assert (await http.get(server.url + "/digest", auth=auth)).content == b"in"
    assert counted(room) == {"successes": 5}


async def _digest(exchange: Any) -> None:
    known = "authorization" in exchange.headers
    asked = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
    await exchange.answer(b"in" if known else b"out", 200 if known else 401, asked)


@pytest.mark.anyio
async def test_a_deadline_goes_along_if_asked_for(client: Any, server: Misbehaving) -> None:
    """The header says what is left, for each attempt anew; without being asked, nothing is sent."""
    async with opened(client, quick(), send_deadline=True) as http:
        async with deadline(30):
            sent = float((await http.get(server.url + "/echo")).json()["headers"]["x-request-timeout"])
        assert 0 < sent <= 30
        assert "x-request-timeout" not in (await http.get(server.url + "/echo")).json()["headers"]
    async with opened(client, deadline(20), send_deadline="X-Left-Ms") as http:
        assert 0 < int((await http.get(server.url + "/echo")).json()["headers"]["x-left-ms"]) <= 20_000
    async with opened(client, deadline(20)) as http:
        assert not {name for name in (await http.get(server.url + "/echo")).json()["headers"] if "timeout" in name}


@pytest.mark.anyio
async def test_a_users_trace_goes_on(client: Any, server: Misbehaving) -> None:
    """Extensions of the user's are as they were."""
    events: Counter[str] = Counter()

    async def trace(name: str, info: dict[str, Any]) -> None:
        events[name] += 1

    async with opened(client, breaker_of()) as http:
        await http.get(server.url + "/ok", extensions={"trace": trace})
    assert events["http11.response_closed.complete"] == 1


# ---- making them -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_client_can_be_guarded_as_it_is(client: Any, server: Misbehaving) -> None:
    """All transports of a client get the policy, mounts included, once."""
    room = bulkhead(1)
    mounted = client.AsyncHTTPTransport()
    async with guard_client(client.AsyncClient(mounts={"http://": mounted, "all://nowhere": None}), room) as http:
        assert (await http.get(server.url + "/ok")).status_code == 200
        assert http._transport.policy is room
        with pytest.raises(ValueError, match="guarded already"):
            guard_client(http, room)
    assert counted(room) == {"successes": 1}
    with guard_client(client.Client(), room) as threads:
        threads.get(server.url + "/ok")
    assert counted(room) == {"successes": 2}
    with pytest.raises(TypeError, match="client must be an AsyncClient or a Client"):
        guard_client(object(), room)


@pytest.mark.anyio
async def test_transports_of_the_other_module_are_rejected(client: Any) -> None:
    """What does not mix is said where it is mixed, with both names."""
    for name in CLIENTS:  # with one of them there is no doubt
        pytest.importorskip(name)
    other = importlib.import_module("httpx" if client.__name__ == "httpx2" else "httpx2")
    with pytest.raises(TypeError, match=f"transport must be one of {client.__name__}"):
        AsyncTransport(bulkhead(1), other.AsyncHTTPTransport(), client=client)
    async with client.AsyncClient(transport=AsyncTransport(bulkhead(1), client=other)) as http:
        with pytest.raises(TypeError, match=f"is for {other.__name__}: it cannot serve a client of another module"):
            await http.get("http://host/")


def test_what_cannot_be_is_rejected_with_its_name(client: Any) -> None:
    """Options are checked where they are given."""
    for name in CLIENTS:  # with one of them there is no doubt
        pytest.importorskip(name)
    made: list[Callable[[], Any]] = [
        lambda: AsyncTransport(bulkhead(1)),
        lambda: AsyncTransport(bulkhead(1), client="requests"),
        lambda: AsyncTransport(bulkhead(1), client.HTTPTransport()),
        lambda: Transport(bulkhead(1), object()),
        lambda: Transport("policy", client=client),  # type: ignore[arg-type]
        lambda: Transport(bulkhead(1), client=client, idempotent="yes"),
        lambda: Transport(bulkhead(1), client=client, idempotent=in_thread),
        lambda: Transport(hedge(idempotent=True), client=client),
        lambda: Transport(bulkhead(1), client=client, send_deadline=1),  # type: ignore[arg-type]
        lambda: Transport(bulkhead(1), client=client, on_reject=None),  # type: ignore[arg-type]
    ]
    said = [
        "both imported",
        "httpx or httpx2",
        "AsyncBaseTransport",
        "BaseTransport",
        "policy",
        "idempotent",
        "answers at once",
        "hedge",
    ]
    said += ["send_deadline", "on_reject"]
    for make, text in zip(made, said, strict=True):
        with pytest.raises(TypeError, match=text):
            make()
    with pytest.raises(ValueError, match="on_reject"):
        Transport(bulkhead(1), client=client, on_reject="ignore")  # type: ignore[arg-type]


def test_what_cannot_guard_a_client_of_threads_says_so_of_that(client: Any) -> None:
    """It named a function of ours, at an address, and said to make that async; timeouts can, by its sockets."""
    name = client.__name__
    Transport(pipeline(timeout(1.0), circuit_breaker()), client=client).close()
    with client.Client() as http, pytest.raises(TypeError, match=rf"^hedge cannot guard {name}\.Client, .*AsyncClient"):
        guard_client(http, hedge(idempotent=True))


@pytest.mark.anyio
async def test_transports_are_of_the_clients_class(client: Any) -> None:
    """A guarded transport is one of the client's, and closes what it wraps."""
    closed: list[str] = []

    class Like:
        async def handle_async_request(self, request: Any) -> Any:
            return client.Response(200, content=b"like")

        async def aclose(self) -> None:
            closed.append("async")

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *error: object) -> None:
            closed.append("left")

    transport = AsyncTransport(bulkhead(1), Like(), client=client)
    assert isinstance(transport, client.AsyncBaseTransport)
    assert isinstance(transport, AsyncTransport)
    async with client.AsyncClient(transport=transport) as http:
        assert (await http.get("http://host/")).content == b"like"
    await transport.aclose()
    assert closed == ["left", "async"]
    with Transport(bulkhead(1), client.MockTransport(lambda request: client.Response(200))) as threads:
        assert isinstance(threads, client.BaseTransport)
    threads.close()


def test_the_error_in_a_200_is_the_readers(client: Any, server: Misbehaving) -> None:
    """What is wrong inside of a good status is seen by who reads it: that may be told, until the body has ended."""
    breaker = breaker_of()
    http = client.Client(transport=Transport(breaker, client=client))
    with http, http.stream("GET", server.url + "/error-in-200") as response:
        held = response.extensions["resilio_held"]
        body = response.iter_bytes()
        said = json.loads(next(body))
        if said["type"] == "error":
            held.failed(RuntimeError(said["error"]["type"]))
    assert counted(breaker) == {"failures": 1}
