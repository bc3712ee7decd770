"""The ASGI middleware against scripted requests: permits, outcomes, rejections, queues."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from serving.memory import Request, Socket

from resilio import (
    CircuitOpenError,
    RateLimitedError,
    bulkhead,
    circuit_breaker,
    current,
    deadline,
    fallback,
    hedge,
    keyed,
    load_shed,
    pipeline,
    rate_limit,
    retry,
    standard,
    timeout,
)
from resilio.integrations.asgi import Middleware

pytestmark = pytest.mark.anyio


def start(status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"x-app", b"yes")]}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def answers(status: int = 200, said: bytes = b"served") -> Any:
    """Return an app that answers with this status."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(status))
        await send(body(said))

    return app


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the app was called")


async def waits_forever(scope: Any, receive: Any, send: Any) -> None:
    await anyio.sleep_forever()


LONG = b"x" * 65_537
"""A body that no server need take at once."""


class Gated:
    """An app that begins to answer, and goes on when it is told to."""

    def __init__(self, *, after: Any = None) -> None:
        self.begun, self.go, self.more = anyio.Event(), anyio.Event(), anyio.Event()
        self.after = after
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await send(start())
        await send(body(b"first", more=True))
        self.begun.set()
        await self.go.wait()
        await send(body(b"last"))
        if self.after is not None:
            await self.after(self)


# ---- how long a permit lasts -----------------------------------------------------------------------------------------


async def test_ls01_a_permit_is_held_to_the_last_byte_of_a_stream() -> None:
    """LS-01: while a response streams its permit is taken; the last byte gives it back."""
    gate = bulkhead(1)
    app = Gated()
    served = Middleware(app, gate)
    async with anyio.create_task_group() as group:
        streaming = Request()
        group.start_soon(streaming.to, served)
        await app.begun.wait()
        assert gate.snapshot().inflight == 1
        assert (await Request().to(served)).status == 503
        app.go.set()
    assert gate.snapshot().inflight == 0
    assert gate.snapshot().successes == 1
    assert streaming.body == b"firstlast"
    assert app.calls == 1


async def test_ls01_what_an_app_does_after_its_response_holds_no_permit() -> None:
    """LS-01: a background task runs on while its permit is free for the next request."""
    gate = bulkhead(1)

    async def background(app: Gated) -> None:
        assert gate.snapshot().inflight == 0
        await app.more.wait()
        raise ZeroDivisionError

    app = Gated(after=background)
    app.go.set()
    request = Request()
    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(request.to, Middleware(app, gate))
            await app.begun.wait()
            while request.body != b"firstlast":
                await anyio.lowlevel.checkpoint()
            assert (await Request().to(Middleware(answers(), gate))).status == 200
            app.more.set()
    assert caught.group_contains(ZeroDivisionError)
    assert (gate.snapshot().successes, gate.snapshot().failures, gate.snapshot().inflight) == (2, 0, 0)


async def test_ls01_a_client_that_leaves_ends_the_permit_and_says_nothing() -> None:
    """LS-01: when the app learns that its client has left, the permit is free, and nothing is said about the app."""
    gate = bulkhead(1)
    seen = anyio.Event()
    end = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"first", more=True))
        while (await receive())["type"] != "http.disconnect":
            pass
        seen.set()
        await end.wait()

    async with anyio.create_task_group() as group:
        request = Request()
        group.start_soon(request.to, Middleware(app, gate))
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().inflight == 1
        request.leave()
        await seen.wait()
        assert gate.snapshot().inflight == 0
        end.set()
    assert (gate.snapshot().ignored, gate.snapshot().successes, gate.snapshot().failures) == (1, 0, 0)


async def test_ls01_a_client_that_leaves_is_also_learnt_by_sending() -> None:
    """LS-01: a server that raises OSError for a client that has left says nothing against the app."""
    gate = bulkhead(1)
    request = Request()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"first", more=True))
        request.broken = True
        await send(body(b"second", more=True))

    with pytest.raises(BrokenPipeError):
        await request.to(Middleware(app, gate))
    assert (gate.snapshot().ignored, gate.snapshot().failures, gate.snapshot().inflight) == (1, 0, 0)


async def test_a_server_that_says_goodbye_while_it_takes_the_last_byte_was_served() -> None:
    """Some servers tell of the connection's end before the last send has returned: that is a whole response."""
    gate = bulkhead(1)

    class Eager(Request):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "http.response.body":
                self.leave()
                await anyio.wait_all_tasks_blocked()
                assert gate.snapshot().inflight == 1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(listen, receive)
            await answers(said=LONG)(scope, receive, send)

    async def listen(receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    await Eager().to(Middleware(app, gate))
    assert (gate.snapshot().successes, gate.snapshot().ignored) == (1, 0)


@pytest.mark.parametrize("raised", [BrokenPipeError, ZeroDivisionError, "cancelled"])
async def test_a_last_byte_that_the_server_does_not_take_gives_the_permit_back(raised) -> None:
    """However the last send ends, the permit does: a client that has left says nothing, a server's fault is one."""
    gate = bulkhead(1)

    class Failing(Request):
        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.body":
                if raised == "cancelled":
                    await anyio.sleep_forever()
                raise raised

    with anyio.CancelScope() as scope:
        request = Failing()
        if raised == "cancelled":
            scope.cancel()
            await request.to(Middleware(answers(said=LONG), gate))
        with pytest.raises(raised):
            await request.to(Middleware(answers(said=LONG), gate))
    ended = gate.snapshot()
    assert ended.inflight == 0
    assert (ended.failures, ended.ignored) == ((1, 0) if raised is ZeroDivisionError else (0, 1))


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_short_body_that_is_all_there_ends_the_permit_as_it_is_sent(status) -> None:
    """What fits into the buffers of any server is taken: the permit does not wait for the send to return."""
    gate = bulkhead(1)

    class Looking(Request):
        async def send(self, message: Any) -> None:
            assert gate.snapshot().inflight == (message["type"] == "http.response.start")
            await super().send(message)

    assert (await Looking().to(Middleware(answers(status), gate))).body == b"served"
    assert gate.snapshot().inflight == 0


async def test_ls01_a_websocket_holds_its_permit_to_its_end() -> None:
    """LS-01: a websocket is one call from the handshake to the close, and its latency that of the handshake."""
    gate = bulkhead(1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    served = Middleware(app, gate)
    async with anyio.create_task_group() as group:
        socket = Socket("one", "two")
        group.start_soon(socket.to, served)
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().inflight == 1
        rejected = await Socket().to(served)
        assert rejected.sent == [{"type": "websocket.close", "code": 1013, "reason": "try again later"}]
        socket.leave()
    assert [message.get("text") for message in socket.sent] == [None, "one", "two"]
    assert (gate.snapshot().successes, gate.snapshot().inflight) == (1, 0)


@pytest.mark.parametrize(
    ("code", "outcome"), [(1000, "successes"), (1001, "successes"), (1006, "ignored"), (1009, "ignored")]
)
async def test_how_a_websocket_is_left_is_its_outcome(code, outcome) -> None:
    """Who says goodbye was served; who vanishes says nothing about the app."""
    gate = bulkhead(1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    socket = Socket(code=code)
    socket.leave()
    socket._script = socket._beginning(())
    socket.left = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(socket.to, Middleware(app, gate))
        await anyio.wait_all_tasks_blocked()
        socket.leave()
    assert getattr(gate.snapshot(), outcome) == 1
    assert gate.snapshot().inflight == 0


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], "successes"),
        ([{"type": "websocket.accept"}, {"type": "websocket.close", "code": 1011}], "failures"),
        ([{"type": "websocket.accept"}], "successes"),
        ([{"type": "websocket.close"}], "ignored"),
        ([], "failures"),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b"a", "more_body": True},
                {"type": "websocket.http.response.body", "body": b"b"},
            ],
            "ignored",
        ),
    ],
)
async def test_how_an_app_ends_a_websocket_is_its_outcome(messages, outcome) -> None:
    """A close is a success, one for an internal error a failure; a handshake rejected says nothing."""
    gate = bulkhead(1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)

    await Socket().to(Middleware(app, gate))
    assert getattr(gate.snapshot(), outcome) == 1
    assert gate.snapshot().inflight == 0


async def test_a_websocket_whose_server_says_that_nobody_is_there_is_ignored() -> None:
    """What a server raises when it sends to a client that has left is nobody's failure."""
    gate = bulkhead(1)
    socket = Socket()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        socket.broken = True
        await send({"type": "websocket.send", "text": "hello"})

    with pytest.raises(BrokenPipeError):
        await socket.to(Middleware(app, gate))
    assert (gate.snapshot().ignored, gate.snapshot().inflight) == (1, 0)


async def test_lifespan_and_unknown_kinds_pass_through() -> None:
    """What is no request takes no permit."""
    gate = bulkhead(1)
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "tomorrow"):
        await Middleware(app, gate)({"type": kind}, None, None)
    assert seen == ["lifespan", "tomorrow"]
    assert gate.snapshot().calls == 0


# ---- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "successes"), (304, "successes"), (404, "ignored"), (429, "ignored"), (500, "failures"), (503, "failures")],
)
async def test_the_status_is_the_outcome(status, outcome) -> None:
    """A server's fault is a failure, a client's says nothing: no limit shrinks and no breaker opens because of it."""
    gate = bulkhead(1)
    request = await Request().to(Middleware(answers(status), gate))
    assert (request.status, request.body) == (status, b"served")
    assert getattr(gate.snapshot(), outcome) == 1
    assert gate.snapshot().inflight == 0


@pytest.mark.parametrize("sends", [[], [start()], [start(), body(b"half", more=True)]])
async def test_an_app_that_does_not_finish_its_response_has_failed(sends) -> None:
    """A response that is missing or cut short by its app is a failure."""
    gate = bulkhead(1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in sends:
            await send(message)

    await Request().to(Middleware(app, gate))
    assert (gate.snapshot().failures, gate.snapshot().inflight) == (1, 0)


@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
async def test_files_that_the_server_sends_end_the_permit(kind) -> None:
    """With the extensions by which servers send files, the last message of those is the end."""
    gate = bulkhead(1)
    message = {"type": f"http.response.{kind}", "path": "/f", "file": 1}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        if kind == "zerocopysend":
            await send({**message, "more_body": True})
            assert gate.snapshot().inflight == 1
        await send(message)
        assert gate.snapshot().inflight == 0

    await Request().to(Middleware(app, gate))
    assert gate.snapshot().successes == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_ls04_an_app_that_raises_is_called_once_and_its_exception_passes(begun) -> None:
    """LS-04: the app is never run again, whether its response had begun or not; its exception goes on unchanged."""
    gate = circuit_breaker()
    error = ZeroDivisionError("app")
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope)
        if begun:
            await send(start())
            await send(body(b"half", more=True))
        raise error

    request = Request()
    with pytest.raises(ZeroDivisionError) as caught:
        await request.to(Middleware(app, gate))
    assert caught.value is error
    assert len(calls) == 1
    assert request.starts == (1 if begun else 0)
    assert (gate.snapshot().failures, gate.snapshot().inflight) == (1, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: retry(on=OSError),
        lambda: hedge(idempotent=True),
        lambda: timeout(2.0),
        lambda: fallback(on=OSError, default=None),
        lambda: deadline(2.0),
        lambda: pipeline(retry(on=OSError), bulkhead(3)),
        lambda: keyed(lambda: retry(on=OSError), key="scope"),
        lambda: standard("upstream", on=OSError),
    ],
)
def test_ls04_a_policy_that_would_run_the_app_again_is_rejected_at_construction(make) -> None:
    """LS-04: retry, hedge and whatever else runs a function has no place around a response; the error says what has."""
    with pytest.raises(TypeError, match=r"policy must only admit or reject, not .*cannot be run again.*Use load_shed"):
        Middleware(never, make())


def test_what_is_no_policy_is_rejected_at_construction() -> None:
    """A policy's factory, a guarded app or None-like values are told from a policy."""
    for wrong in (load_shed, bulkhead(1)(lambda: None), 3):
        with pytest.raises(TypeError, match="policy must be a policy"):
            Middleware(never, wrong)
    assert Middleware(never).policy is Middleware(never).policy
    assert Middleware(never).policy.kind == "load_shed"


# ---- rejections
# --------------------------------------------------------------------------------------------------------


async def test_ls05_a_rejection_is_answered_before_the_body_is_read() -> None:
    """LS-05: who is rejected is answered without calling the app and without reading a byte of the body."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    request = await Request(body=(b"x" * 10, b"y" * 10)).to(Middleware(never, gate))
    permit.success()
    assert request.received == []
    assert (request.status, request.starts) == (503, 1)
    assert request.body == b"503 Service Unavailable\n"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["retry-after"] in ("1", "2")
    assert request.sent[-1]["more_body"] is False
    assert gate.snapshot().rejected == 1


async def test_ls05_a_rate_limit_answers_429_with_a_spread_retry_after(vt) -> None:
    """LS-05: 429 where a quota is spent; Retry-After is never early, and not the same for all."""
    served = Middleware(answers(), rate_limit("1/min"))
    assert (await Request().to(served)).status == 200
    rejected = [await Request().to(served) for _ in range(100)]
    assert {request.status for request in rejected} == {429}
    waits = {int(request.headers["retry-after"]) for request in rejected}
    assert min(waits) >= 60
    assert max(waits) <= 90
    assert len(waits) > 5


async def test_ls05_an_open_breaker_answers_503_for_as_long_as_it_is_open() -> None:
    """LS-05: a breaker around a server answers at once while it is open."""
    gate = circuit_breaker()
    gate.force_open()
    assert (await Request().to(Middleware(never, gate))).status == 503


async def test_ls05_health_endpoints_are_exempt() -> None:
    """LS-05: health endpoints, and what else is told, are served whatever the policy says, and take no permit."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    for path in ("/health", "/healthz", "/livez", "/readyz"):
        assert (await Request(path).to(Middleware(answers(), gate))).status == 200
    mine = Middleware(answers(), gate, exempt=("/ping", "/static/*"))
    statuses = [
        (await Request(path).to(mine)).status for path in ("/ping", "/static/a.css", "/static", "/healthz", "/")
    ]
    assert statuses == [200, 200, 200, 200, 503]
    by_function = Middleware(answers(), gate, exempt=lambda scope: scope["method"] == "POST")
    assert (await Request(body=(b"", b"")).to(by_function)).status == 200
    assert (await Request("/healthz").to(by_function)).status == 503
    permit.success()
    assert gate.snapshot().calls - gate.snapshot().rejected == 1


@pytest.mark.parametrize(
    ("path", "root", "status"),
    [
        ("/api/healthz", "/api", 200),
        ("/api/healthz", "/api/", 200),
        ("/healthz", "/api", 200),
        ("/api/static/a.css", "/api", 200),
        ("/apihealthz", "/api", 503),
        ("/api/orders", "/api", 503),
    ],
)
@pytest.mark.parametrize("exempt", [("/healthz",), ("/healthz", "/static/*")])
async def test_ls05_health_is_exempt_wherever_the_app_is_mounted(path, root, status, exempt) -> None:
    """
    LS-05: a path counts from where the app is mounted, too, which is how its routes are written.

    Uvicorn with `--root-path /api` says of each request that it came below that, also of a probe that did not: it was
    answered with 503 under load, for which orchestrators kill.
    """
    gate = bulkhead(1)
    permit = gate.try_acquire()
    served = Middleware(answers(), gate, exempt=exempt)
    expected = status if len(exempt) == 2 or "static" not in path else 503
    assert (await Request(path, root_path=root).to(served)).status == expected
    permit.success()


async def test_a_function_of_the_user_that_raises_is_logged_once_and_changes_nothing(caplog) -> None:
    """What `exempt`, `respond` or `trust` raise takes no request down: it is logged once, and counts for nothing."""
    gate = bulkhead(1)
    permit = gate.try_acquire()

    def wrong(*args: Any) -> Any:
        raise ZeroDivisionError

    served = Middleware(answers(), gate, exempt=wrong, respond=wrong, trust=wrong, priority_header="x-priority")
    for _ in range(3):
        request = await Request(headers={"x-priority": "critical"}).to(served)
        assert (request.status, request.body) == (503, b"503 Service Unavailable\n")
    permit.success()
    said = [record.message for record in caplog.records if record.name == "resilio"]
    assert sorted(message.split("=")[0] for message in said) == ["exempt", "respond", "trust"]


async def test_a_rejection_is_answered_as_the_user_likes() -> None:
    """`respond` decides status, headers and body; what it leaves out is added, and None is the usual answer."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    seen = []

    def respond(scope: Any, error: Any) -> Any:
        seen.append((scope["path"], error.policy, error.reason))
        if scope["path"] == "/usual":
            return None
        if scope["path"] == "/own":
            return 529, [("Retry-After", "77"), ("Content-Type", "application/json")], b'{"busy":true}'
        headers = [(b"bytes", "are no text")] if scope["path"] == "/broken" else [("x-price", scope["path"][1:])]
        return 200, headers, b""

    served = Middleware(never, gate, respond=respond)
    own = await Request("/own").to(served)
    assert (own.status, own.body, own.headers["retry-after"]) == (529, b'{"busy":true}', "77")
    assert own.headers["content-length"] == "13"
    assert (await Request("/usual").to(served)).status == 503
    for path in ("/broken", "/5€", "/5\r\nx-injected: 6"):
        assert (await Request(path).to(served)).status == 503
    assert seen[0] == ("/own", "bulkhead", "full")
    permit.success()


async def test_an_answer_that_is_no_bool_and_raises_is_one_too(caplog) -> None:
    """What `trust` and `exempt` return may raise when it is looked at; an async function, always true, is not taken."""

    class Odd:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

    served = Middleware(answers(), exempt=lambda scope: Odd(), trust=lambda scope: Odd(), priority_header="x-priority")
    assert (await Request(headers={"x-priority": "critical"}).to(served)).status == 200

    async def later(scope: Any) -> bool:
        return False

    with pytest.raises(TypeError, match="trust must be a function"):
        Middleware(answers(), trust=later)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "version", "closes"),
    [
        ({}, "1.1", False),
        ({"content-length": "0"}, "1.1", False),
        ({"content-length": "65536"}, "1.1", False),
        ({"content-length": "65537"}, "1.1", True),
        ({"content-length": "9" * 5000}, "1.1", True),
        ({"content-length": "huge"}, "1.1", True),
        ({"transfer-encoding": "chunked"}, "1.1", True),
        ({"content-length": "5", "expect": "100-continue"}, "1.1", True),
        ({"content-length": "65537"}, "1.0", True),
        ({"content-length": "65537"}, "2", False),
        ({"content-length": "65537"}, "3", False),
    ],
)
async def test_ls05_the_connection_is_closed_only_for_a_body_that_nobody_reads(headers, version, closes) -> None:
    """LS-05: a rejection keeps HTTP/1 connections open unless a long body is under way, and has no say in HTTP/2."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    request = await Request(headers=headers, http_version=version).to(Middleware(never, gate))
    permit.success()
    assert (request.headers.get("connection") == "close") is closes
    assert request.received == []


async def test_a_server_that_is_drained_sends_its_clients_elsewhere() -> None:
    """A pipeline that drains rejects with `connection: close`: the next request finds another server."""
    line = pipeline(bulkhead(3))
    await line.adrain(0)
    request = await Request().to(Middleware(never, line))
    assert (request.status, request.headers["connection"]) == (503, "close")


async def test_a_rejected_handshake_is_answered_with_a_response_where_the_server_can() -> None:
    """With the extension for it, a websocket is rejected by 503 and Retry-After, not by a bare 403."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    socket = await Socket(extensions={"websocket.http.response": {}}).to(Middleware(never, gate))
    permit.success()
    assert [message["type"] for message in socket.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert socket.status == 503
    assert "retry-after" in socket.headers


async def test_a_client_that_does_not_wait_for_its_rejection_changes_nothing() -> None:
    """A rejection that nobody is there to read is no error."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    request = Request()
    request.broken = True
    await request.to(Middleware(never, gate))
    permit.success()
    assert request.sent == []


async def test_a_rejection_that_the_app_lets_through_is_answered_too() -> None:
    """A handler whose own guarded call is rejected answers 503 or 429 with Retry-After, not 500."""
    gate = bulkhead(1)
    for error, status in ((CircuitOpenError("circuit_breaker", retry_after=3.0), 503), (RateLimitedError("r"), 429)):

        async def app(scope: Any, receive: Any, send: Any, raised: Exception = error) -> None:
            raise raised

        request = await Request().to(Middleware(app, gate))
        assert request.status == status
        assert "retry-after" in request.headers
    assert (gate.snapshot().ignored, gate.snapshot().inflight) == (2, 0)


async def test_ls04_a_rejection_after_the_response_has_begun_passes() -> None:
    """LS-04: once it has begun nothing is answered in its place, and there is one start."""
    error = CircuitOpenError("circuit_breaker")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        raise error

    request = Request()
    with pytest.raises(CircuitOpenError):
        await request.to(Middleware(app, bulkhead(1)))
    assert request.starts == 1


async def test_a_policy_in_shadow_rejects_nothing_and_counts() -> None:
    """With enforce=False every request is served, and what would have been rejected is counted."""
    gate = bulkhead(1, enforce=False)
    app = Gated()
    served = Middleware(app, gate)
    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, served)
        await app.begun.wait()
        app.go.set()
        assert (await Request().to(served)).status == 200
    assert gate.snapshot().would_reject == 1


async def test_policies_are_asked_with_the_scope() -> None:
    """A key is a function of the scope: each peer has a limit of its own."""
    per_peer = keyed(lambda: rate_limit("1/min"), key=lambda scope: scope["client"][0])
    served = Middleware(answers(), per_peer)
    peers = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert [(await Request(client=(peer, 1)).to(served)).status for peer in peers] == [200, 200, 429]


async def test_the_app_has_no_call_of_the_middleware_around_it() -> None:
    """A permit by hand is no ambient call: decorated handlers are the outermost calls, as without the middleware."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert current() is None
        await answers()(scope, receive, send)

    assert (await Request().to(Middleware(app, bulkhead(1)))).status == 200


async def test_server_timing_tells_where_the_time_went_until_the_response_began(vt) -> None:
    """With server_timing=True the response's head has the ledger: the wait in the queue, and the app so far."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(0.25)
        await send(start())
        await send(body(b"first", more=True))
        await anyio.sleep(5.0)
        await send(body(b"last"))

    served = Middleware(app, gate, server_timing=True)
    first, second = Request(), Request()
    async with anyio.create_task_group() as group:
        group.start_soon(first.to, served)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second.to, served)
    assert first.headers["server-timing"].startswith("attempt;dur=250")
    assert first.headers["x-app"] == "yes"
    timing = {name: float(dur) for name, dur in (p.split(";dur=") for p in second.headers["server-timing"].split(", "))}
    assert timing["queue"] == pytest.approx(5250, abs=2)
    assert timing["attempt"] == pytest.approx(250, abs=2)
    assert second.body == b"firstlast"
    assert "server-timing" not in (await Request().to(Middleware(answers(), gate))).headers


# ---- the queue -------------------------------------------------------------------------------------------------------


async def test_ls05_who_waits_in_the_queue_is_served_when_there_is_room() -> None:
    """LS-05: a request waits in the policy's own queue, and its app sees the request as it was sent."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first = Gated()
    bodies = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            bodies.append(message["body"])
        await answers()(scope, receive, send)

    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = Request(headers={"content-length": "6"}, body=(b"abc", b"def"))
        group.start_soon(waits.to, Middleware(echo, gate))
        await anyio.wait_all_tasks_blocked()
        assert (gate.snapshot().queued, waits.sent) == (1, [])
        first.go.set()
    assert bodies == [b"abc", b"def"]
    assert waits.status == 200
    assert (gate.snapshot().successes, gate.snapshot().queued, gate.snapshot().inflight) == (2, 0, 0)


@pytest.mark.parametrize(
    "headers", [{"content-length": "1000000"}, {"transfer-encoding": "chunked"}, {"expect": "100-continue"}]
)
async def test_ls05_a_long_body_is_not_read_while_its_request_waits(headers) -> None:
    """LS-05: who waits with a long body costs no memory: nothing of it is asked for before there is a permit."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first = Gated()
    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = Request(headers=headers, body=(b"abc", b"def"))
        group.start_soon(waits.to, Middleware(answers(), gate))
        await anyio.wait_all_tasks_blocked()
        assert (gate.snapshot().queued, waits.received) == (1, [])
        first.go.set()
    assert waits.status == 200


async def test_ls05_a_body_of_unknown_length_is_read_ahead_to_a_bound_and_no_further() -> None:
    """
    LS-05: in HTTP/2 nothing tells that a body follows, or how long it is: 64 KiB of it are kept, and the rest waits.

    All of it was read, and kept, while its request waited: so many megabytes for each one in the queue.
    """
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first, length = Gated(), 0

    async def counts(scope: Any, receive: Any, send: Any) -> None:
        nonlocal length
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            length += len(message["body"])
        await answers()(scope, receive, send)

    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = Request(body=(b"x" * 16_384,) * 100, http_version="2")
        group.start_soon(waits.to, Middleware(counts, gate))
        await anyio.wait_all_tasks_blocked()
        assert (gate.snapshot().queued, len(waits.received)) == (1, 5)
        first.go.set()
    assert (waits.status, length) == (200, 1_638_400)


@pytest.mark.parametrize("make", [Request, Socket])
async def test_a_client_that_leaves_the_queue_gives_its_place_back(make) -> None:
    """Who leaves while its request waits is not served: its place is free at once, and the app is never called."""
    gate = bulkhead(1, max_queued=1, max_wait=60.0)
    first = Gated()
    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = make()
        group.start_soon(waits.to, Middleware(never, gate))
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().queued == 1
        waits.leave()
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().queued == 0
        first.go.set()
    assert waits.sent == []
    assert gate.snapshot().inflight == 0
    assert gate.snapshot().cancelled == 1


async def test_who_waits_too_long_is_rejected(vt) -> None:
    """The rejection after a wait is the same answer as one at once."""
    gate = bulkhead(1, max_queued=5, max_wait=0.5)
    first = Gated()
    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = await Request().to(Middleware(never, gate))
        assert (waits.status, vt.now >= 0.5) == (503, True)
        first.go.set()


async def test_a_request_that_is_cancelled_in_the_queue_gives_its_place_back() -> None:
    """A server that shuts down cancels what waits: nothing is held after that."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first = Gated()
    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(Request().to, Middleware(never, gate))
            doomed.start_soon(Request(headers={"expect": "100-continue"}).to, Middleware(never, gate))
            await anyio.wait_all_tasks_blocked()
            assert gate.snapshot().queued == 2
            doomed.cancel_scope.cancel()
        assert gate.snapshot().queued == 0
        first.go.set()
    assert gate.snapshot().inflight == 0


async def test_a_request_that_is_cancelled_as_it_leaves_the_queue_gives_its_permit_back() -> None:
    """The permit was granted, and before its app has done anything the request is cancelled: the permit is free."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first = Gated()

    class Stubborn(Request):
        """A server whose receive does not end with its first cancellation."""

        async def receive(self) -> Any:
            if self._script:
                return await super().receive()
            try:
                await anyio.sleep_forever()
            finally:
                scope.cancel()  # who cancels the request does so while it is on its way out of the queue

    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        with anyio.CancelScope() as scope:
            first.go.set()
            await Stubborn().to(Middleware(waits_forever, gate))
    assert scope.cancelled_caught
    assert (gate.snapshot().inflight, gate.snapshot().queued) == (0, 0)


async def test_a_server_that_cannot_be_read_ahead_is_left_alone() -> None:
    """What receive raises while the request waits is for the app to meet: the wait goes on."""
    gate = bulkhead(1, max_queued=5, max_wait=60.0)
    first = Gated()

    class Broken(Request):
        async def receive(self) -> Any:
            raise RuntimeError("broken")

    async with anyio.create_task_group() as group:
        group.start_soon(Request().to, Middleware(first, gate))
        await first.begun.wait()
        waits = Broken()
        group.start_soon(waits.to, Middleware(answers(), gate))
        await anyio.wait_all_tasks_blocked()
        assert gate.snapshot().queued == 1
        first.go.set()
    assert waits.status == 200
