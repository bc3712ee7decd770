"""The ASGI middleware in real servers and frameworks, over sockets."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from serving.sockets import ASGI_SERVERS, Raw, asgi_server, until

from resilio import bulkhead, load_shed, rate_limit
from resilio.integrations.asgi import Middleware

pytestmark = pytest.mark.parametrize("kind", ASGI_SERVERS)


class App:
    """Answers by the path, and tells what happens."""

    def __init__(self) -> None:
        self.calls = 0
        self.read = 0
        self.go = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                said = (await receive())["type"]
                await send({"type": f"{said}.complete"})
                if said == "lifespan.shutdown":
                    return
        self.calls += 1
        if scope["type"] == "websocket":
            await self.echo(receive, send)
            return
        headers = [(b"content-type", b"text/plain")]
        if scope["path"] == "/drip":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self.drip(receive, send)
            return
        if scope["path"] == "/hold":
            while not self.go.is_set():  # noqa: ASYNC110 - it is set in another thread
                await anyio.sleep(0.001)
        headers.append((b"content-length", b"6"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"served"})

    async def drip(self, receive: Any, send: Any) -> None:
        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            while not self.go.is_set():
                await send({"type": "http.response.body", "body": b"drop", "more_body": True})
                await anyio.sleep(0.001)
            await send({"type": "http.response.body"})
            group.cancel_scope.cancel()

    async def echo(self, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


def test_ls01_a_stream_holds_its_permit_until_its_client_has_it_all(kind) -> None:
    """LS-01: over a socket, a permit is taken from the first to the last byte of a response."""
    gate, app = bulkhead(1), App()
    with asgi_server(kind, Middleware(app, gate)) as port, Raw(port) as client, Raw(port) as other:
        client.say("GET /drip HTTP/1.1\nHost: a\n\n")
        assert " 200" in client.head().split("\r\n")[0]
        assert gate.snapshot().inflight == 1
        other.say("GET / HTTP/1.1\nHost: a\n\n")
        head = other.head()
        assert " 503" in head.split("\r\n")[0]
        assert "retry-after: " in head
        app.go.set()
        while b"0\r\n\r\n" not in client._read:
            client._read += client.socket.recv(65536)
        until(lambda: gate.snapshot().inflight == 0)
    ended = gate.snapshot()
    assert (ended.successes + ended.ignored, ended.failures, ended.rejected, app.calls) == (1, 0, 1, 1)
    # This server says that the client has left before the last send returns, and this app then stops sending.
    assert ended.successes == (kind != "hypercorn-trio")


def test_ls01_a_client_that_breaks_a_stream_off_frees_its_permit(kind) -> None:
    """LS-01: who vanishes in the middle of a response leaves no permit behind, and no failure."""
    gate, app = bulkhead(1), App()
    with asgi_server(kind, Middleware(app, gate)) as port:
        for _ in range(3):
            with Raw(port) as client:
                client.say("GET /drip HTTP/1.1\nHost: a\n\n")
                client.head()
                assert gate.snapshot().inflight == 1
                client.vanish()
            until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().ignored, gate.snapshot().failures, gate.snapshot().rejected) == (3, 0, 0)


@pytest.mark.parametrize("expects", [False, True])
def test_ls05_a_rejection_comes_before_the_body_is_sent(kind, expects) -> None:
    """LS-05: a client that announces ten megabytes is answered before it has sent one, and is not asked to go on."""
    gate, app = bulkhead(1), App()
    permit = gate.try_acquire()
    with asgi_server(kind, Middleware(app, gate)) as port, Raw(port) as client:
        more = "Expect: 100-continue\n" if expects else ""
        client.say(f"POST / HTTP/1.1\nHost: a\nContent-Length: 10000000\n{more}\n")
        head = client.head()
        if expects and kind != "uvicorn":  # which says "go on" before it asks anybody
            assert " 100" in head
            head = client.head()
        assert " 503" in head.split("\r\n")[0]
        assert "connection: close" in head
        assert client.body(head) == b"503 Service Unavailable\n"
        assert client.rest() == b""
    permit.success()
    assert app.calls == 0


def test_ls05_a_rejection_reaches_a_client_that_is_still_sending(kind) -> None:
    """LS-05: an upload that is rejected while it is under way ends with the answer, not with a broken connection."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    with asgi_server(kind, Middleware(App(), gate)) as port, Raw(port) as client:
        client.say("POST / HTTP/1.1\nHost: a\nContent-Length: 10000000\n\n")
        client.say(b"x" * 50_000)
        head = client.head()
        assert " 503" in head.split("\r\n")[0]
        assert client.body(head) == b"503 Service Unavailable\n"
    permit.success()


def test_ls05_a_connection_outlives_rejections(kind) -> None:
    """LS-05: who is rejected, with no body or a short one, goes on on the same connection."""
    gate, app = bulkhead(1), App()
    permit = gate.try_acquire()
    with asgi_server(kind, Middleware(app, gate)) as port, Raw(port) as client:
        for request in ("GET / HTTP/1.1\nHost: a\n\n", "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello"):
            client.say(request)
            head = client.head()
            assert " 503" in head.split("\r\n")[0]
            assert "connection: close" not in head
            client.body(head)
        permit.success()
        client.say("GET / HTTP/1.1\nHost: a\n\n")
        assert client.body(client.head()) == b"served"
    assert app.calls == 1


def test_ls05_health_is_answered_under_overload(kind) -> None:
    """LS-05: the health endpoint answers while everything else is rejected."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    with asgi_server(kind, Middleware(App(), gate)) as port, Raw(port) as client:
        client.say("GET /healthz HTTP/1.1\nHost: a\n\n")
        assert client.body(client.head()) == b"served"
    permit.success()


def test_a_client_that_leaves_the_queue_gives_its_place_back(kind) -> None:
    """A request whose client has left is not served when its turn comes: its place is given to others at once."""
    gate, app = bulkhead(1, max_queued=1, max_wait=600.0), App()
    with asgi_server(kind, Middleware(app, gate)) as port, Raw(port) as first:
        first.say("GET /hold HTTP/1.1\nHost: a\n\n")
        until(lambda: gate.snapshot().inflight == 1)
        with Raw(port) as leaves:
            leaves.say("GET / HTTP/1.1\nHost: a\n\n")
            until(lambda: gate.snapshot().queued == 1)
            leaves.vanish()
        until(lambda: gate.snapshot().queued == 0)
        with Raw(port) as stays:
            stays.say("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello")
            until(lambda: gate.snapshot().queued == 1)
            app.go.set()
            assert stays.body(stays.head()) == b"served"
        assert first.body(first.head()) == b"served"
    assert app.calls == 2
    assert (gate.snapshot().inflight, gate.snapshot().queued) == (0, 0)


def test_ls01_websockets_hold_their_permits_and_are_rejected(kind) -> None:
    """LS-01: a websocket has its permit until it is closed; another one is rejected meanwhile."""
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    gate, app = bulkhead(1), App()
    with asgi_server(kind, Middleware(app, gate)) as port:
        client = websocket.create_connection(f"ws://127.0.0.1:{port}/")
        client.send("hello")
        assert client.recv() == "hello"
        assert gate.snapshot().inflight == 1
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            websocket.create_connection(f"ws://127.0.0.1:{port}/")
        assert caught.value.status_code == 503
        client.close()
        until(lambda: gate.snapshot().inflight == 0)
    ended = gate.snapshot()
    assert (ended.successes + ended.ignored, ended.failures, ended.rejected) == (1, 0, 1)
    assert ended.successes == (kind == "uvicorn")  # hypercorn says of every client that it has vanished


def test_ls05_a_deadline_of_a_trusted_peer_ends_the_wait(kind) -> None:
    """LS-05: what a trusted client has left bounds the app over a socket as well: 504, and the permit is free."""
    gate, app = load_shed(), App()
    with asgi_server(kind, Middleware(app, gate, trust="127.0.0.0/8")) as port, Raw(port) as client:
        client.say("GET /hold HTTP/1.1\nHost: a\nX-Request-Timeout: 0.05\n\n")
        head = client.head()
        assert " 504" in head.split("\r\n")[0]
        client.body(head)
        client.say("GET /hold HTTP/1.1\nHost: a\nX-Request-Timeout: 0\n\n")
        assert " 504" in client.head().split("\r\n")[0]
    assert app.calls == 1
    assert (gate.snapshot().inflight, gate.snapshot().rejected) == (0, 1)


def test_a_rate_limit_rejects_in_http2_without_connection_headers(kind) -> None:
    """Over HTTP/2 a rejection is 429 as well; `connection` does not exist there (this uvicorn speaks HTTP/1)."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("h2", reason="h2 is not installed")
    two = kind != "uvicorn"
    with (
        asgi_server(kind, Middleware(App(), rate_limit("1/h"))) as port,
        httpx.Client(http1=not two, http2=two) as client,
    ):
        answers = [client.get(f"http://127.0.0.1:{port}/") for _ in range(2)]
        version = "HTTP/2" if two else "HTTP/1.1"
        assert [(answer.status_code, answer.http_version) for answer in answers] == [(200, version), (429, version)]
        assert int(answers[1].headers["retry-after"]) >= 3600
        assert "connection" not in answers[1].headers
