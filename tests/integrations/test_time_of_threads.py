"""Clients for threads end when a timeout or a deadline ends: real servers that hang, stall and trickle."""

from __future__ import annotations

import asyncio
import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

import pytest
from servers.misbehaving import Exchange, Misbehaving

pytest.importorskip("requests", reason="requests is not installed")

import requests
from urllib3 import connection

import resilio
from resilio import (
    CallTimeoutError,
    DeadlineExceededError,
    bulkhead,
    circuit_breaker,
    deadline,
    pipeline,
    retry,
    standard,
    timeout,
)
from resilio._context import variables
from resilio._native.core import seconds_left
from resilio._native.strategies import late_error
from resilio._support.client_target import mark_as_heeding_time
from resilio.integrations._shared import urllib3_time
from resilio.integrations.requests import Adapter
from resilio.testing import VirtualTime

FOREVER = 600.0
"""Seconds: what the client's own timeout allows. A test that waits for that hangs, and is ended by the suite."""


class Http:
    """One of the two clients for threads of httpx and httpx2, under guard."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def _module(self) -> Any:
        return pytest.importorskip(self.name, reason=f"{self.name} is not installed")

    @property
    def timeout(self) -> Any:
        """The class of its time-outs."""
        return self._module.TimeoutException

    @property
    def error(self) -> Any:
        """The class of its errors."""
        return self._module.TransportError

    @contextmanager
    def opened(self, policy: Any, **options: Any) -> Iterator[Callable[[str], Any]]:
        """What gets the whole of an address, by a client that is closed afterwards."""
        transport_of = importlib.import_module("resilio.integrations.httpx").Transport
        transport = transport_of(policy, client=self._module, **options)
        with self._module.Client(transport=transport, timeout=FOREVER) as client:
            yield client.get


class Requests:
    """Sessions of requests, under guard."""

    name = "requests"
    timeout, error = requests.Timeout, requests.RequestException

    @contextmanager
    def opened(self, policy: Any, **options: Any) -> Iterator[Callable[[str], Any]]:
        """What gets the whole of an address, by a session that is closed afterwards."""
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, Adapter(policy, **options))
            yield session.get


CLIENTS: list[Any] = [Http("httpx2"), Requests()]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.name)
def client(request: pytest.FixtureRequest) -> Any:
    """A client of each kind; httpx has the same transport as httpx2."""
    return request.param


async def quick(exchange: Exchange) -> None:
    """Answer in one packet."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def trickle_headers(exchange: Exchange) -> None:
    """Begin an answer whose headers have no end."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\nx: ")
    while not exchange.reader.at_eof() and not exchange.writer.is_closing():
        await exchange.raw(b"x")
        await asyncio.sleep(0.02)


@pytest.fixture
def server(server: Misbehaving) -> Misbehaving:
    """With headers that trickle, and a quick answer."""
    server.routes["/trickle-headers"] = trickle_headers
    server.routes.update({"/quick": quick, "/busy-then-slow": busy_then_slow, "/elsewhere": elsewhere, "/slow": slow})
    return server


async def busy_then_slow(exchange: Exchange) -> None:
    """Answer 503 with a body, and the next time after a while."""
    if exchange.server.requests[exchange.path] == 1:
        await exchange.raw(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy")
        return
    await asyncio.sleep(0.6)
    await quick(exchange)


async def elsewhere(exchange: Exchange) -> None:
    """Redirect, with a body, to an answer that takes a while."""
    await exchange.raw(b"HTTP/1.1 302 Found\r\nlocation: /slow\r\ncontent-length: 4\r\n\r\nback")


async def slow(exchange: Exchange) -> None:
    """Answer after a while."""
    await asyncio.sleep(0.6)
    await quick(exchange)


HANGS = ["/reject-headers", "/hang-mid-body", "/drip?n=0&every=0.02", "/trickle-headers"]


def counted(policy: Any) -> dict[str, int]:
    """The outcomes of a policy that are not zero."""
    shown = policy.snapshot()
    names = ("successes", "failures", "ignored", "inflight", "rejected")
    return {name: getattr(shown, name) for name in names if getattr(shown, name)}


@pytest.mark.parametrize("client", [*CLIENTS, Http("httpx")], indirect=True, ids=lambda client: client.name)
@pytest.mark.parametrize("path", HANGS)
def test_a_fixed_timeout_ends_a_request_to_its_last_byte(client: Any, server: Misbehaving, path: str) -> None:
    """
    `standard(timeout=1.0)` around a server that hangs took 12 s with httpx, and requests hung for ever. The timeout was
    left out, since nothing interrupts a thread; now the socket waits no longer than is left, whatever trickles in.
    """
    stack = standard(f"hangs {client.name} {path}", on="http", timeout=0.2, attempts=1)
    breaker, pool = (
        next(part for part in stack.policies if part.kind == kind) for kind in ("circuit_breaker", "bulkhead")
    )
    with client.opened(stack) as get:
        with pytest.raises(CallTimeoutError, match=r"within 0\.2 s") as caught:
            get(server.url + path)
        assert isinstance(caught.value, client.timeout)
        assert counted(breaker) == {"failures": 1}
        assert counted(pool).get("inflight", 0) == 0
        stack.policies[-1].reconfigure(total=FOREVER)
        assert get(server.url + "/ok").status_code == 200


@pytest.mark.parametrize(("ambient", "path"), [*((True, path) for path in HANGS), (False, "/hang-mid-body")])
def test_a_deadline_ends_a_request_to_its_last_byte(client: Any, server: Misbehaving, path: str, ambient: bool) -> None:
    """What is left of a deadline bounds each wait of the socket anew; the error is the client's too."""
    for seconds in (0.2, 1.0, 5.0, 25.0):  # a busy machine may begin too late, and the call is rejected
        room = bulkhead(1)
        policy = room if ambient else pipeline(deadline(seconds), room)
        with client.opened(policy) as get, pytest.raises(DeadlineExceededError) as caught:
            if ambient:
                with deadline(seconds):
                    get(server.url + path)
            else:
                get(server.url + path)
        if not room.snapshot().rejected:
            break
    assert isinstance(caught.value, client.error)
    assert caught.value.remaining == 0.0
    assert counted(room) == {"ignored": 1}


def test_a_note_of_a_broken_body_is_added_once(client: Any, server: Misbehaving) -> None:
    """A stack noted the time of the attempt and of the call around it, word for word the same."""
    for seconds in (0.2, 1.0, 5.0, 25.0):  # a busy machine may have no headers yet
        stack = standard(f"noted {client.name} {seconds}", on="http", timeout=seconds, attempts=1)
        with client.opened(stack) as get, pytest.raises(CallTimeoutError) as caught:
            get(server.url + "/hang-mid-body")
        notes = caught.value.__notes__
        if any("body" in note for note in notes):
            break
    assert any("body" in note for note in notes)
    assert len(notes) == len(set(notes))


def test_a_deadline_that_was_ample_is_a_failure(client: Any, server: Misbehaving) -> None:
    """As for calls that can be interrupted: one that had as much time as 99 % of the successes took has failed."""
    breaker = circuit_breaker()
    with client.opened(breaker) as get:
        for _ in range(100):
            get(server.url + "/quick")
        ample = 2 * breaker.latency.quantile(0.99) + 0.05
        with pytest.raises(DeadlineExceededError), deadline(ample):
            get(server.url + "/reject-headers")
    assert counted(breaker) == {"successes": 100, "failures": 1}


def test_the_callers_own_timeout_stays_its_own(client: Any, server: Misbehaving) -> None:
    """Where the client's own timeout is shorter, its error is raised as it is."""
    with client.opened(pipeline(deadline(FOREVER), timeout(FOREVER))) as get, pytest.raises(client.timeout) as caught:
        get(server.url + "/reject-headers", timeout=0.05)
    assert not isinstance(caught.value, resilio.ResilienceError)


@pytest.mark.real(1.0)
def test_each_attempt_has_its_own_time(client: Any, server: Misbehaving) -> None:
    """A retry around the timeout tries again, with the caller's own timeout and not with what was left of it."""
    limit = timeout(0.2, name=f"each {client.name}")
    policy = pipeline(resilio.retry(on=CallTimeoutError, attempts=3, backoff=0.0, budget=None), limit)
    with client.opened(policy) as get:
        with pytest.raises(CallTimeoutError) as caught:
            get(server.url + "/reject-headers")
        limit.reconfigure(total=FOREVER)
        assert get(server.url + "/ok").status_code == 200
    assert server.requests["/reject-headers"] == 3
    assert len(caught.value.resilio.attempts) == 3  # type: ignore[attr-defined]
    assert limit.snapshot().failures == 3


def test_gates_inside_of_a_timeout_see_a_failure(client: Any, server: Misbehaving) -> None:
    """Whatever their rules are: for them a timeout is a failure, as it is where a call is interrupted."""
    inside = circuit_breaker(on=ZeroDivisionError)
    outside = circuit_breaker(on=ZeroDivisionError)
    with client.opened(pipeline(outside, timeout(0.1), inside)) as get, pytest.raises(CallTimeoutError):
        get(server.url + "/reject-headers")
    assert (counted(inside), counted(outside)) == ({"failures": 1}, {"successes": 1})


def test_a_wait_inside_of_a_timeout_ends_with_it(client: Any, server: Misbehaving) -> None:
    """A queue inside of the timeout is waited in no longer than the timeout allows."""
    room = bulkhead(1, max_queued=1, max_wait=FOREVER)
    permit = room.acquire()
    with client.opened(pipeline(timeout(0.1), room)) as get, pytest.raises(CallTimeoutError):
        get(server.url + "/ok")
    permit.success()
    assert server.requests["/ok"] == 0


@pytest.mark.parametrize("path", ["/busy-then-slow", "/elsewhere"])
@pytest.mark.real(1.0)
def test_the_time_of_a_body_does_not_bound_what_follows_it(client: Any, server: Misbehaving, path: str) -> None:
    """After a body under an `idle` clock a retry, or the request to where it redirects, had that for its headers."""
    again = resilio.retry(on="http", attempts=2, backoff=0.0, budget=None)
    with client.opened(pipeline(again, timeout(first=FOREVER, idle=0.3))) as get:
        options = {} if client.name == "requests" else {"follow_redirects": True}
        assert get(server.url + path, **options).text == "ok"


@pytest.mark.real(1.0)
def test_a_connection_whose_call_was_ended_is_not_lost(server: Misbehaving) -> None:
    """A pool of one connection that blocks: after each end by a clock the next request has one, and its full time."""
    with requests.Session() as session:
        session.mount("http://", Adapter(timeout(0.2), pool_maxsize=1, pool_block=True))
        for path in ["/drip?n=0&every=0.02", "/reject-headers", "/trickle-headers", "/hang-mid-body"]:
            with pytest.raises(CallTimeoutError):
                session.get(server.url + path)
            assert session.get(server.url + "/quick").text == "ok"


@pytest.mark.parametrize("first", [None, 0.15])
def test_each_request_has_the_time_that_a_function_computes(client: Any, server: Misbehaving, first: Any) -> None:
    """It is the time of the whole request, body included, also where the headers have a shorter one."""
    limit = timeout(lambda request: 0.2 if "hang" in str(request.url) else FOREVER, ceiling=FOREVER, first=first)
    with client.opened(limit) as get:
        assert get(server.url + "/ok").status_code == 200
        with pytest.raises(CallTimeoutError, match=r"within 0\.2 s"):
            get(server.url + "/hang-mid-body")
    assert (limit.total_errors, limit.snapshot().inflight) == (0, 0)


@pytest.mark.slow
def test_a_learned_timeout_does_not_end_a_long_download(client: Any, server: Misbehaving) -> None:
    """It has learned how long headers take: for a body its ceiling bounds silence alone."""
    limit = timeout("p50*10", ceiling=2.0)
    with client.opened(limit) as get:
        assert len(get(server.url + "/drip?n=25&every=0.1").content) == 25
        limit.reconfigure(ceiling=0.2)
        with pytest.raises(CallTimeoutError):
            get(server.url + "/hang-mid-body")
    assert limit.snapshot().inflight == 0


@pytest.mark.slow
def test_the_deadline_of_a_preset_does_not_end_a_long_download(client: Any, server: Misbehaving) -> None:
    """The caller has never seen that number; one that was given does end it."""
    brief = resilio.presets.of(ConnectionError)
    brief = resilio.presets.Preset(failing=brief.failing, momentary=brief.momentary, unsent=brief.unsent, deadline=2.0)
    with client.opened(standard(f"preset {client.name}", on=brief)) as get:
        assert len(get(server.url + "/drip?n=25&every=0.1").content) == 25
    given = standard(f"given {client.name}", on=brief, deadline=0.2)
    with client.opened(given) as get, pytest.raises(DeadlineExceededError):
        get(server.url + "/drip?n=0&every=0.02")


def test_streams_in_threads_have_their_clocks(client: Any, server: Misbehaving) -> None:
    """`first` bounds the time to the headers, `idle` the time between two parts of the body."""
    clocks = timeout(first=0.2, idle=FOREVER)
    with client.opened(clocks) as get:
        with pytest.raises(CallTimeoutError) as caught:
            get(server.url + "/reject-headers")
        assert caught.value.clock == "first"
        clocks.reconfigure(first=FOREVER, idle=0.2)
        with pytest.raises(CallTimeoutError) as caught:
            get(server.url + "/hang-mid-body")
    assert caught.value.clock == "idle"
    assert clocks.snapshot().inflight == 0


def test_a_handshake_that_stalls_is_ended(client: Any) -> None:
    """A server whose system accepts, and that never says a word of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        breaker = circuit_breaker()
        with client.opened(pipeline(breaker, timeout(0.2))) as get, pytest.raises(CallTimeoutError) as caught:
            get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert isinstance(caught.value, client.timeout)
    assert counted(breaker) == {"failures": 1}


def test_a_connection_that_has_no_time_for_tls_is_closed(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time was up as soon as it was connected, httpx's sockets stayed open until they were collected."""
    connected: list[socket.socket] = []
    connect = socket.socket.connect

    def at_last(sock: socket.socket, address: Any) -> None:
        connect(sock, address)
        connected.append(sock)
        while seconds_left():
            time.sleep(0.001)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(socket.socket, "connect", at_last)
        with client.opened(timeout(0.2)) as get, pytest.raises(CallTimeoutError):
            get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert [sock.fileno() for sock in connected] in ([-1], [])  # none: a busy machine was late before


def test_the_connection_of_a_body_that_comes_too_late_is_closed(
    client: Any, server: Misbehaving, vt: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that was read as the time passed: the connection of requests stayed open until it was collected."""
    sockets, here = [], threading.get_ident()
    recv_into, recv = socket.socket.recv_into, socket.socket.recv

    def late(read: Any) -> Any:
        def reads(sock: socket.socket, *args: Any) -> Any:
            found = read(sock, *args)
            if threading.get_ident() == here:  # and not the server's
                sockets.append(sock)
                vt.advance(3.0)
            return found

        return reads

    with client.opened(pipeline(deadline(5.0), bulkhead(1))) as get:
        monkeypatch.setattr(socket.socket, "recv_into", late(recv_into))
        monkeypatch.setattr(socket.socket, "recv", late(recv))
        with pytest.raises(DeadlineExceededError) as caught:
            get(server.url + "/drip?n=0&every=0.02")
        assert [sock.fileno() for sock in sockets] == [-1] * len(sockets) != []
    assert caught.value.__traceback__ is not None  # it has all frames, and what is in them


def test_a_passed_deadline_may_be_answered(client: Any, server: Misbehaving) -> None:
    """With `on_reject="respond"` it is a 504, as where it is rejected before."""
    with client.opened(pipeline(deadline(0.1), bulkhead(1)), on_reject="respond") as get:
        assert get(server.url + "/reject-headers").status_code == 504


def test_an_answer_that_is_judged_within_its_own_limit_has_a_nearer_deadline(vt: VirtualTime) -> None:
    """The limit was outside of itself, when a judge read the answer: the search for the nearest one had no end."""
    seen = []

    def read() -> None:
        vt.advance(2.0)
        seen.append(late_error())

    def judged() -> None:
        with deadline(1.0):
            variables.time_limit.get().run(read)

    timeout(5.0)(mark_as_heeding_time(judged))()
    assert [type(error) for error in seen] == [DeadlineExceededError]
    assert seen[0].deadline == 1.0


def test_a_context_that_a_call_has_copied_keeps_its_deadline(vt: VirtualTime) -> None:
    """A thread that the call has begun works on after it, within the same time."""
    copies: list[Context] = []
    timeout(5.0)(mark_as_heeding_time(lambda: copies.append(copy_context())))()
    vt.advance(2.0)
    assert copies[0].run(resilio.remaining) == 3.0
    assert resilio.remaining() is None


@pytest.mark.parametrize("policy", [lambda: bulkhead(1), lambda: retry(on=OSError, attempts=1)], ids=["gate", "retry"])
def test_a_function_around_a_guarded_client_is_bounded(client: Any, server: Misbehaving, policy: Any) -> None:
    """`deadline=` of a standard stack around a plain function bounds the guarded clients that it calls."""
    with client.opened(policy()) as get:

        @standard(f"around {client.name} by {policy().label}", on="http", deadline=0.05, attempts=1)
        def fetch(path: str) -> Any:
            return get(server.url + path)

        for path in HANGS:
            with pytest.raises(DeadlineExceededError):
                fetch(path)
        assert get(server.url + "/ok").status_code == 200


# ---- sockets that keep their class


class Final(socket.socket):
    """A socket without subclasses."""

    def __init_subclass__(cls, **_: Any) -> None:
        raise TypeError("this class is final")


class Sealed(socket.socket):
    """A socket whose class cannot be exchanged."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__class__":
            raise AttributeError("the class of this socket is fixed")
        super().__setattr__(name, value)


@pytest.fixture(params=[Final, Sealed], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of all sockets of urllib3, which keeps them from being timed."""
    urllib3_time._warn_once.cache_clear()
    connect = connection.HTTPConnection._new_conn

    def keeping(self: Any) -> Any:
        plain = connect(self)
        given, kept = plain.gettimeout(), request.param(fileno=plain.detach())
        kept.settimeout(given)
        return kept

    monkeypatch.setattr(connection.HTTPConnection, "_new_conn", keeping)
    return request.param


def test_a_socket_that_keeps_its_class_serves_requests_and_is_named(
    kind: Any, server: Misbehaving, caplog: pytest.LogCaptureFixture
) -> None:
    """A request over such a socket failed with the TypeError of the exchange: it goes on, and the log has one line."""
    breaker = circuit_breaker()
    guarded = pipeline(breaker, timeout(60.0))
    for _ in range(3):  # a client each: one that reuses its connection may find that the server has just closed it
        with Requests().opened(guarded) as get:
            assert get(server.url + "/quick").content == b"ok"
    assert counted(breaker) == {"successes": 3}
    named = [line.getMessage() for line in caplog.records if "keep their class" in line.getMessage()]
    assert len(named) == 1
    assert f".{kind.__qualname__} " in named[0]


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("path", ["/reject-headers", "/hang-mid-body"])
def test_a_socket_that_keeps_its_class_ends_in_time_nevertheless(server: Misbehaving, path: str) -> None:
    """Its waits have the time that was left when they began, by the timeout of the connection, which is public."""
    breaker = circuit_breaker()
    with (
        Requests().opened(pipeline(breaker, timeout(0.2))) as get,
        pytest.raises(CallTimeoutError) as caught,
    ):
        get(server.url + path, timeout=FOREVER)
    assert isinstance(caught.value, requests.Timeout)
    assert counted(breaker) == {"failures": 1}
