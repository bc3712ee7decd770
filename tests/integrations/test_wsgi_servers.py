"""The WSGI middleware in real servers and frameworks, over sockets, with a thread for each request."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from serving.sockets import Raw, until, wsgi_server

from resilio import bulkhead, load_shed
from resilio.integrations.wsgi import Middleware

SERVERS = pytest.mark.parametrize("kind", ["wsgiref", "werkzeug"])


class App:
    """Answers by the path."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = 0
        self.go = threading.Event()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.calls += 1
        path = environ["PATH_INFO"]
        if path == "/drip":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return self.drip()
        if path == "/hold":
            self.go.wait()
        if path == "/dies":
            start_response("200 OK", [("Content-Length", "100")])
            return self.dies()
        start_response("200 OK", [("Content-Length", "6")])
        return [b"served"]

    def drip(self) -> Any:
        try:
            while not self.go.is_set():
                yield b"drop" * 1000
        finally:
            self.closed += 1

    def dies(self) -> Any:
        yield b"half"
        raise ZeroDivisionError


@SERVERS
def test_ls01_a_stream_holds_its_permit_until_it_is_closed(kind) -> None:
    """LS-01: over a socket, a permit is taken until the server has closed the body; others are rejected meanwhile."""
    gate, app = bulkhead(1), App()
    with wsgi_server(Middleware(app, gate), kind=kind) as port:
        with Raw(port) as client:
            client.say("GET /drip HTTP/1.1\nHost: a\n\n")
            client.head()
            assert gate.snapshot().inflight == 1
            with Raw(port) as other:
                other.say("GET / HTTP/1.1\nHost: a\n\n")
                head = other.head()
                assert " 503 service unavailable" in head
                assert "retry-after: " in head
                assert other.body(head) == b"503 Service Unavailable\n"
            app.go.set()
            client.rest()
        until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().successes, gate.snapshot().rejected, app.calls) == (1, 1, 1)


@SERVERS
def test_ls01_a_client_that_breaks_a_stream_off_frees_its_permit(kind) -> None:
    """LS-01: who vanishes in the middle of a response leaves no permit behind, and no failure."""
    gate, app = bulkhead(1), App()
    with wsgi_server(Middleware(app, gate), kind=kind) as port:
        for _ in range(3):
            with Raw(port) as client:
                client.say("GET /drip HTTP/1.1\nHost: a\n\n")
                client.head()
                client.vanish()
            until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().ignored, gate.snapshot().failures, app.closed) == (3, 0, 3)


@SERVERS
def test_ls01_an_app_that_dies_in_its_body_frees_its_permit(kind) -> None:
    """LS-01: an exception in the body is a failure, and nothing is held after it."""
    gate = bulkhead(1)
    with wsgi_server(Middleware(App(), gate), kind=kind) as port, Raw(port) as client:
        client.say("GET /dies HTTP/1.1\nHost: a\n\n")
        client.rest()
        until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().failures, gate.snapshot().inflight) == (1, 0)


@SERVERS
def test_ls05_a_rejection_comes_before_the_body_is_sent(kind) -> None:
    """LS-05: a client that announces ten megabytes is answered before it has sent one."""
    gate, app = bulkhead(1), App()
    permit = gate.try_acquire()
    with wsgi_server(Middleware(app, gate), kind=kind) as port, Raw(port) as client:
        client.say("POST / HTTP/1.1\nHost: a\nContent-Length: 10000000\n\n")
        head = client.head()
        assert " 503 " in head
        assert client.body(head) == b"503 Service Unavailable\n"
    permit.success()
    assert app.calls == 0


@SERVERS
def test_requests_wait_in_their_threads(kind) -> None:
    """A queue holds the threads of those who wait; each is served in its turn."""
    gate, app = bulkhead(1, max_queued=3, max_wait=600.0), App()
    with wsgi_server(Middleware(app, gate), kind=kind) as port:
        clients = [Raw(port) for _ in range(4)]
        for client in clients:
            client.say("GET /hold HTTP/1.1\nHost: a\n\n")
        until(lambda: gate.snapshot().queued == 3)
        app.go.set()
        for client in clients:
            with client:
                assert client.body(client.head()) == b"served"
        until(lambda: gate.snapshot().inflight == 0)
    assert gate.snapshot().successes == 4


def test_flask_is_guarded_as_a_whole() -> None:
    """In Flask `app.wsgi_app` is wrapped: views, streams and error handlers are inside."""
    flask = pytest.importorskip("flask", reason="flask is not installed")
    app = flask.Flask("guarded")
    gate = bulkhead(1)
    go = threading.Event()

    @app.get("/")
    def index() -> str:
        return "served"

    @app.get("/stream")
    def stream() -> Any:
        @flask.stream_with_context
        def parts() -> Any:
            yield flask.request.path
            go.wait()
            yield "end"

        return flask.Response(parts())

    @app.get("/fails")
    def fails() -> str:
        raise ZeroDivisionError

    app.wsgi_app = Middleware(app.wsgi_app, gate, server_timing=True)
    with wsgi_server(app, kind="werkzeug") as port, Raw(port) as client, Raw(port) as other:
        client.say("GET /stream HTTP/1.1\nHost: a\nConnection: close\n\n")
        assert "server-timing: attempt;dur=" in client.head()
        other.say("GET / HTTP/1.1\nHost: a\n\n")
        head = other.head()
        assert " 503 " in head
        other.body(head)
        go.set()
        assert b"/stream" in client.rest()
        until(lambda: gate.snapshot().inflight == 0)
        with Raw(port) as third:
            third.say("GET /fails HTTP/1.1\nHost: a\nConnection: close\n\n")
            assert " 500 " in third.head()
            third.rest()
        until(lambda: gate.snapshot().inflight == 0)
    assert (gate.snapshot().successes, gate.snapshot().failures, gate.snapshot().rejected) == (1, 1, 1)


@pytest.mark.real(1.0)
def test_django_is_guarded_as_a_whole() -> None:
    """In Django the application is wrapped: its streaming responses hold their permits too."""
    django = pytest.importorskip("django", reason="django is not installed")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="s", DATABASES={}, USE_TZ=True)
        django.setup()
    from django.core.wsgi import get_wsgi_application

    gate = load_shed(max_concurrent=3)
    with (
        wsgi_server(Middleware(get_wsgi_application(), gate, trust=True, priority_header="x-priority")) as port,
        Raw(port) as client,
    ):
        client.say("GET /stream HTTP/1.0\nHost: a\nX-Priority: critical\n\n")
        assert b"critical" in client.rest()
        until(lambda: gate.snapshot().inflight == 0)
    assert gate.snapshot().successes == 1


def _stream(request: Any) -> Any:
    from django.http import StreamingHttpResponse

    from resilio import current_priority

    return StreamingHttpResponse(part for part in (b"as ", current_priority().encode()))


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":  # Django asks this module for them
        from django.urls import path

        return [path("stream", _stream)]
    raise AttributeError(name)
