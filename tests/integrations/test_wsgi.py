"""The WSGI middleware called as a server does: permits, outcomes, rejections, what requests say of themselves."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from serving.sockets import until

from resilio import (
    CircuitOpenError,
    bulkhead,
    circuit_breaker,
    current_priority,
    deadline,
    keyed,
    load_shed,
    pipeline,
    rate_limit,
    remaining,
    retry,
)
from resilio.integrations._servers import busy_threads
from resilio.integrations._shared import held_permits
from resilio.integrations.wsgi import Middleware, ignored_headers, tenant_of


class Exchange:
    """One request as a server makes it."""

    def __init__(self, path: str = "/", *, method: str = "GET", **variables: str) -> None:
        self.environ: dict[str, Any] = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "REMOTE_ADDR": "10.0.0.7",
            "wsgi.file_wrapper": FileWrapper,
            **variables,
        }
        setup_testing_defaults(self.environ)
        self.starts: list[str] = []
        self.headers: dict[str, str] = {}
        self.written = b""
        self.body: Any = None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.starts and exc_info is None:
            raise AssertionError("two starts")
        self.starts.append(status)
        self.headers = {name.lower(): value for name, value in headers}
        return self.write

    def write(self, data: bytes) -> None:
        self.written += data

    def begin(self, app: Any) -> Exchange:
        self.body = app(self.environ, self.start_response)
        return self

    def to(self, app: Any) -> Exchange:
        """Serve it whole."""
        self.begin(app)
        try:
            for part in self.body:
                self.write(part)
        finally:
            self.close()
        return self

    def close(self) -> None:
        if hasattr(self.body, "close"):
            self.body.close()

    @property
    def status(self) -> int:
        return int(self.starts[-1].split()[0])


def answers(status: str = "200 OK", body: Any = None) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [("Content-Type", "text/plain")])
        return [b"served"] if body is None else body()

    return app


def never(environ: Any, start_response: Any) -> Any:
    raise AssertionError("the app was called")


def parts(*given: Any) -> Iterator[bytes]:
    for part in given:
        if isinstance(part, BaseException):
            raise part
        yield part


def counts(gate: Any) -> tuple[int, int, int, int]:
    seen = gate.snapshot()
    return seen.successes, seen.failures, seen.ignored, seen.inflight


# ---- how long a permit lasts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [lambda: [b"a", b"b"], lambda: (b"a", b"b"), lambda: parts(b"a", b"b")])
def test_ls01_a_permit_is_held_until_the_server_closes_the_body(body) -> None:
    """LS-01: while the server iterates the permit is taken; the close gives it back."""
    gate = bulkhead(1)
    served = Middleware(answers(body=body), gate)
    exchange = Exchange().begin(served)
    assert counts(gate) == (0, 0, 0, 1)
    assert Exchange().to(served).status == 503
    assert b"".join(exchange.body) == b"ab"
    assert gate.snapshot().inflight == 1
    exchange.close()
    exchange.close()
    assert counts(gate) == (1, 0, 0, 0)
    assert Exchange().to(served).written == b"ab"


def test_a_list_keeps_its_length_for_the_server() -> None:
    """Servers make a Content-Length of a body of one part: the middleware shows how many there are."""
    assert len(Exchange().begin(Middleware(answers(), bulkhead(1))).body) == 1
    for given in ([b"a", b"b"], (b"a", b"b"), type("Parts", (list,), {})((b"a", b"b")), []):
        body: Any = Exchange().begin(Middleware(lambda environ, start, given=given: given, bulkhead(1))).body
        assert (len(body), bool(body), [*body], [*body]) == (len(given), bool(given), [*given], [])


def test_ls01_a_body_that_is_closed_early_has_lost_its_client() -> None:
    """LS-01: a server that stops iterating has nobody to send to: that says nothing about the app."""
    gate = bulkhead(1)
    closed = []

    class Stream:
        def __iter__(self) -> Any:
            return parts(b"a", b"b")

        def close(self) -> None:
            closed.append(True)

    exchange = Exchange().begin(Middleware(answers(body=Stream), gate))
    assert next(exchange.body) == b"a"
    exchange.close()
    assert (counts(gate), closed) == ((0, 0, 1, 0), [True])


def test_ls01_a_body_that_nobody_closes_is_abandoned_and_counted(caplog) -> None:
    """LS-01: a body that is dropped gives its permit back when it is collected; it is counted, and logged once."""
    gc.collect()
    bulkhead(1).call(int)
    caplog.clear()
    held_permits._logged.clear()
    gate = bulkhead(1, name="abandoned-by-wsgi")
    served = Middleware(answers(body=lambda: parts(b"a", b"b")), gate)
    for _ in range(3):
        exchange = Exchange().begin(served)
        next(exchange.body)
        del exchange
        gc.collect()
    assert (counts(gate), gate.snapshot().abandoned) == ((0, 0, 3, 0), 3)
    Exchange().to(served)
    said = [record.message for record in caplog.records if record.name == "resilio"]
    assert len(said) == 1
    assert "abandoned-by-wsgi" in said[0]


def test_a_body_is_an_iterator_by_name_as_well() -> None:
    """
    Servers written in C or Rust call `__next__` by its name, and so does what goes on in a context of its own.

    It raised NotImplementedError: Granian broke off each body that was no list.
    """
    gate = bulkhead(1)
    body = Exchange().begin(Middleware(answers(body=lambda: parts(b"a", b"b")), gate)).body
    assert (body.__next__(), body.__next__()) == (b"a", b"b")
    for _ in range(2):
        with pytest.raises(StopIteration):
            body.__next__()
    body.close()
    assert counts(gate) == (1, 0, 0, 0)
    broken = Exchange().begin(Middleware(answers(body=lambda: parts(b"a", OSError("late"))), gate)).body
    assert broken.__next__() == b"a"
    with pytest.raises(OSError, match="late"):
        broken.__next__()
    assert counts(gate) == (1, 1, 0, 0)


def test_one_middleware_inside_of_another_that_has_told_it_a_deadline() -> None:
    """The inner one's body is iterated in the context of the outer one's request: a stream of it could not be read."""
    outer, inner = bulkhead(1), bulkhead(1)
    app = Middleware(Middleware(answers(body=lambda: parts(b"a", b"b")), inner), outer, default_deadline=30.0)
    assert Exchange().to(app).written == b"ab"
    assert (counts(outer), counts(inner)) == ((1, 0, 0, 0), (1, 0, 0, 0))


class Status(str):
    """As frameworks make them of an enumeration, or mark them as safe."""

    __slots__ = ()


class Closing(list[bytes]):
    """A list that has something to close, as any iterable may."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_status_and_a_body_of_derived_types_are_what_they_are() -> None:
    """What the server would take, it gets: the status was rejected, and the list was never closed."""
    gate = bulkhead(1)
    said = Closing([b"served"])
    exchange = Exchange().to(Middleware(answers(Status("404 Not Found"), lambda: said), gate))
    assert (exchange.status, exchange.written, said.closed) == (404, b"served", True)
    assert counts(gate) == (0, 0, 1, 0)


def test_a_body_that_was_read_to_its_end_and_not_closed_is_whole() -> None:
    """A server that does not close what it has read to the end has served it."""
    gate = bulkhead(1)
    exchange = Exchange().begin(Middleware(answers(), gate))
    assert list(exchange.body) == [b"served"]
    del exchange
    gc.collect()
    assert (counts(gate), gate.snapshot().abandoned) == ((1, 0, 0, 0), 0)


def test_a_head_request_is_served_though_nobody_reads_its_body() -> None:
    """A server need not iterate for HEAD: that is no client that has left."""
    gate = bulkhead(1)
    exchange = Exchange(method="HEAD").begin(Middleware(answers(body=lambda: parts(b"a")), gate))
    exchange.close()
    assert counts(gate) == (1, 0, 0, 0)


def test_files_go_to_the_server_as_they_are(tmp_path) -> None:
    """What `wsgi.file_wrapper` has made stays what it is, so that the server can send it its own way."""
    gate = bulkhead(1)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    opened = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        opened.append(path.open("rb"))
        return environ["wsgi.file_wrapper"](opened[-1])

    exchange = Exchange().begin(Middleware(app, gate))
    assert type(exchange.body) is FileWrapper
    assert b"".join(exchange.body) == b"content"
    assert gate.snapshot().inflight == 1
    exchange.close()
    assert opened[0].closed
    assert counts(gate) == (1, 0, 0, 0)


def test_files_of_servers_that_let_nobody_at_their_wrapper_are_bodies() -> None:
    """A wrapper without room for anything, as of some servers in C, is iterated over like any body."""

    class Closed:
        __slots__ = ("file",)

        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Any:
            return iter(self.file)

    gate = bulkhead(1)
    exchange = Exchange(**{"wsgi.file_wrapper": Closed})
    exchange.to(Middleware(answers(body=lambda: Closed([b"content"])), gate))
    assert exchange.written == b"content"
    assert counts(gate) == (1, 0, 0, 0)


def test_a_file_without_a_close_and_one_whose_close_raises() -> None:
    """A wrapper of what cannot be closed ends its permit all the same; an error while closing is the app's failure."""
    gate = bulkhead(1)

    class Open:
        def read(self, size: int) -> bytes:
            return b""

    class Broken(Open):
        def close(self) -> None:
            raise ZeroDivisionError

    Exchange().to(Middleware(answers(body=lambda: FileWrapper(Open())), gate))
    with pytest.raises(ZeroDivisionError):
        Exchange().to(Middleware(answers(body=lambda: FileWrapper(Broken())), gate))
    assert counts(gate) == (1, 1, 0, 0)


def test_what_is_written_at_once_is_part_of_the_response() -> None:
    """The `write` of start_response works, for apps that have no iterable; a client that has left is noticed."""
    gate = bulkhead(1)

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        assert write  # as of any function
        write(b"by hand")
        return []

    assert Exchange().to(Middleware(app, gate)).written == b"by hand"
    assert counts(gate) == (1, 0, 0, 0)

    class Gone(Exchange):
        def write(self, data: bytes) -> None:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Gone().to(Middleware(app, gate))
    assert counts(gate) == (1, 0, 1, 0)


# ---- outcomes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("200 OK", "successes"),
        ("302 Found", "successes"),
        ("404 Not Found", "ignored"),
        ("500 Oh", "failures"),
        ("bad", "failures"),
    ],
)
def test_the_status_is_the_outcome(status, outcome) -> None:
    """A server's fault is a failure, a client's says nothing."""
    gate = bulkhead(1)
    Exchange().to(Middleware(answers(status), gate))
    assert getattr(gate.snapshot(), outcome) == 1


def test_a_response_that_is_never_begun_is_a_failure() -> None:
    """An app that returns a body without a status has failed."""
    gate = bulkhead(1)
    Exchange().to(Middleware(lambda environ, start_response: [], gate))
    assert counts(gate) == (0, 1, 0, 0)


@pytest.mark.parametrize("where", ["call", "start", "body", "close"])
def test_ls04_an_app_that_raises_is_called_once_and_its_exception_passes(where) -> None:
    """LS-04: wherever the app raises, it is not run again, and its exception is the server's to see."""
    gate = circuit_breaker()
    error = ZeroDivisionError(where)
    calls = []

    class Closing:
        def __iter__(self) -> Any:
            return parts(b"a")

        def close(self) -> None:
            raise error

    def app(environ: Any, start_response: Any) -> Any:
        calls.append(environ)
        if where == "call":
            raise error
        start_response("200 OK", [])
        if where == "start":
            raise error
        return parts(b"a", error) if where == "body" else Closing()

    exchange = Exchange()
    with pytest.raises(ZeroDivisionError) as caught:
        exchange.to(Middleware(app, gate))
    assert caught.value is error
    assert len(calls) == 1
    assert len(exchange.starts) == (where != "call")
    assert counts(gate) == (0, 1, 0, 0)


def test_an_app_may_begin_again_with_an_error() -> None:
    """The second start_response, with exc_info, counts: its status is the outcome."""
    gate = bulkhead(1)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            import sys

            start_response("500 Sorry", [("X-Error", "yes")], sys.exc_info())
        return [b"sorry"]

    exchange = Exchange().to(Middleware(app, gate))
    assert (exchange.starts, exchange.headers) == (["200 OK", "500 Sorry"], {"x-error": "yes"})
    assert counts(gate) == (0, 1, 0, 0)


@pytest.mark.parametrize("make", [lambda: retry(on=OSError), lambda: pipeline(retry(on=OSError), bulkhead(1))])
def test_ls04_a_policy_that_would_run_the_app_again_is_rejected_at_construction(make) -> None:
    """LS-04: as in ASGI."""
    with pytest.raises(TypeError, match="cannot be run again"):
        Middleware(never, make())
    assert Middleware(never).policy is Middleware(never).policy
    assert Middleware(never).policy.name == "wsgi"


# ---- rejections
# --------------------------------------------------------------------------------------------------------


def test_ls05_a_rejection_is_answered_without_calling_the_app() -> None:
    """LS-05: 503 and Retry-After, no hop-by-hop header, and nothing of the body is read."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    exchange = Exchange(method="POST", CONTENT_LENGTH="1000000")
    exchange.environ["wsgi.input"] = None
    exchange.to(Middleware(never, gate))
    assert exchange.starts == ["503 Service Unavailable"]
    assert exchange.written == b"503 Service Unavailable\n"
    assert exchange.headers["content-length"] == str(len(exchange.written))
    assert exchange.headers["retry-after"] in ("1", "2")
    assert "connection" not in exchange.headers
    assert Exchange(method="HEAD").to(Middleware(never, gate)).written == b""
    permit.success()


def test_ls05_health_endpoints_are_exempt() -> None:
    """LS-05: health endpoints are served whatever the policy says, also of an app that is mounted somewhere."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    assert Exchange("/healthz").to(Middleware(answers(), gate)).status == 200
    mounted = Middleware(answers(), gate, exempt=["/shop/ping"])
    assert Exchange("/ping", SCRIPT_NAME="/shop").to(mounted).status == 200
    assert Exchange("/ping").to(mounted).status == 503
    for options in ({}, {"exempt": ["/healthz", "/static/*"]}):  # a path as the app knows it counts as well
        assert Exchange("/healthz", SCRIPT_NAME="/shop").to(Middleware(answers(), gate, **options)).status == 200
        assert Exchange("/orders", SCRIPT_NAME="/shop").to(Middleware(answers(), gate, **options)).status == 503
    permit.success()


def test_ls05_a_rate_limit_answers_429() -> None:
    """LS-05: 429 where a quota is spent, for each peer its own."""
    per_peer = keyed(lambda: rate_limit("1/h"), key=lambda environ: environ["REMOTE_ADDR"])
    served = Middleware(answers(), per_peer)
    assert [Exchange(REMOTE_ADDR=peer).to(served).status for peer in ("a", "b", "a")] == [200, 200, 429]


def test_a_rejection_is_answered_as_the_user_likes() -> None:
    """`respond` decides; a status that has no name is sent all the same."""
    gate = bulkhead(1)
    permit = gate.try_acquire()
    served = Middleware(never, gate, respond=lambda environ, error: (529, [("x-why", error.reason)], b"busy"))
    exchange = Exchange().to(served)
    assert exchange.starts == ["529 Rejected"]
    assert (exchange.headers["x-why"], exchange.written) == ("full", b"busy")
    permit.success()


@pytest.mark.parametrize("lazily", [False, True])
def test_a_rejection_that_the_app_lets_through_is_answered_too(lazily) -> None:
    """A guarded call that is rejected inside, in the app or in its generator, is 503 if nothing was begun."""
    gate = bulkhead(1)

    def app(environ: Any, start_response: Any) -> Any:
        raise CircuitOpenError("circuit_breaker", retry_after=2.0)

    def generator(environ: Any, start_response: Any) -> Any:
        app(environ, start_response)
        yield b"never"

    exchange = Exchange().to(Middleware(generator if lazily else app, gate))
    assert (exchange.status, exchange.written) == (503, b"503 Service Unavailable\n")
    assert counts(gate) == (0, 0, 1, 0)


def test_ls04_a_rejection_after_the_response_has_begun_passes() -> None:
    """LS-04: what has begun is not begun again."""
    rejection = CircuitOpenError("circuit_breaker")
    exchange = Exchange()
    with pytest.raises(CircuitOpenError):
        exchange.to(Middleware(answers(body=lambda: parts(b"a", rejection)), bulkhead(1)))
    assert exchange.starts == ["200 OK"]


def test_who_waits_for_a_permit_waits_in_its_thread() -> None:
    """A queue blocks the thread of the request, and the app is called when its turn comes."""
    gate = bulkhead(1, max_queued=1, max_wait=600.0)
    permit = gate.try_acquire()
    exchange = Exchange()
    thread = threading.Thread(target=exchange.to, args=(Middleware(answers(), gate),))
    thread.start()
    until(lambda: gate.snapshot().queued == 1)
    assert exchange.starts == []
    permit.success()
    thread.join()
    assert exchange.status == 200
    assert counts(gate)[0] == 2


# ---- what a request says of itself -----------------------------------------------------------------------------------


class Asked:
    """An app that notes what it knows of its request, in its call, in its body and when that is closed."""

    def __init__(self) -> None:
        self.known: list[Any] = []

    def note(self) -> None:
        self.known.append((remaining(), current_priority()))

    def __call__(self, environ: Any, start_response: Any) -> Any:
        self.note()
        self.tenant = tenant_of(environ)
        start_response("200 OK", [])
        return self

    def __iter__(self) -> Any:
        yield b"a"
        self.note()

    def close(self) -> None:
        self.note()


def test_deadline_priority_and_tenant_of_a_trusted_peer_are_the_apps(vt) -> None:
    """What a trusted peer says holds in the call, while the body is made and when it is closed, and nowhere else."""
    app = Asked()
    served = Middleware(app, bulkhead(1), trust="10.0.0.0/8", priority_header="X-Priority", tenant_header="x-tenant")
    said = {"HTTP_X_REQUEST_TIMEOUT": "2.5", "HTTP_X_PRIORITY": "critical", "HTTP_X_TENANT": "acme"}
    Exchange(**said).to(served)
    assert app.known == [(2.5, "critical")] * 3
    assert app.tenant == "acme"
    assert (remaining(), current_priority()) == (None, "standard")


def test_a_deadline_outside_that_is_nearer_stays(vt) -> None:
    """A request cannot have more time than who serves it."""
    app = Asked()
    with deadline(1.0):
        Exchange(HTTP_X_REQUEST_TIMEOUT="2.5").to(Middleware(app, bulkhead(1), trust=True))
        Exchange(HTTP_X_REQUEST_TIMEOUT="0.5").to(Middleware(app, bulkhead(1), trust=True))
    assert [left for left, _ in app.known] == [1.0] * 3 + [0.5] * 3


def test_a_default_deadline_holds_where_nothing_is_said(vt) -> None:
    """`default_deadline` stands for those who do not ask, a list as body included."""
    left = []

    def app(environ: Any, start_response: Any) -> Any:
        left.append(remaining())
        return answers()(environ, start_response)

    Exchange().to(Middleware(app, bulkhead(1), default_deadline=3.0, deadline_header=None))
    assert left == [3.0]


def test_ls03_headers_of_strangers_are_ignored_and_counted() -> None:
    """LS-03: by default nobody is trusted; what they say is counted."""
    app, before = Asked(), ignored_headers().get(("deadline", "untrusted"), 0)
    Exchange(HTTP_X_REQUEST_TIMEOUT="0").to(Middleware(app, bulkhead(1)))
    Exchange(HTTP_X_REQUEST_TIMEOUT="0", REMOTE_ADDR="").to(Middleware(app, bulkhead(1), trust="10.0.0.0/8"))
    assert app.known == [(None, "standard")] * 6
    assert ignored_headers()["deadline", "untrusted"] == before + 2


@pytest.mark.parametrize("value", ["-1", "9" * 400, "", "nan", "1, 1", "\u00e9"])
def test_deadlines_that_make_no_sense_are_ignored_and_counted(value) -> None:
    """Odd values of a trusted peer change nothing."""
    app, before = Asked(), sum(ignored_headers().values())
    Exchange(HTTP_X_REQUEST_TIMEOUT=value).to(Middleware(app, bulkhead(1), trust=True))
    assert app.known[0] == (None, "standard")
    assert sum(ignored_headers().values()) == before + 1


def test_ls05_a_request_that_is_already_late_is_rejected_before_any_work() -> None:
    """LS-05: 504 at once, without Retry-After, and the policy's counters show it."""
    gate = bulkhead(1)
    exchange = Exchange(HTTP_X_REQUEST_TIMEOUT="0").to(Middleware(never, gate, trust=True))
    assert exchange.starts == ["504 Gateway Timeout"]
    assert "retry-after" not in exchange.headers
    assert gate.gates[0].rejections()["deadline"] == 1


def test_server_timing_tells_where_the_time_went_until_the_response_began(vt) -> None:
    """With server_timing=True the header has the ledger of the permit, beside what the app says itself."""

    def app(environ: Any, start_response: Any) -> Any:
        vt.advance(0.25)
        start_response("200 OK", [("X-App", "yes")])
        return []

    gate = bulkhead(1)
    exchange = Exchange().to(Middleware(app, gate, server_timing=True))
    assert exchange.headers["server-timing"].startswith("attempt;dur=250")
    assert exchange.headers["x-app"] == "yes"
    permit = gate.try_acquire()
    assert "server-timing" not in Exchange().to(Middleware(app, gate, server_timing=True)).headers
    permit.success()
    assert "server-timing" not in Exchange().to(Middleware(app, gate)).headers


def test_a_start_response_that_raises_is_the_servers_to_see() -> None:
    """A server that rejects a second start, since the first is under way, fails the app."""
    gate = bulkhead(1)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(AssertionError, match="two starts"):
        Exchange().to(Middleware(app, gate))
    assert counts(gate) == (0, 1, 0, 0)


@pytest.mark.parametrize("idle", [0, 1])
def test_a_shedder_with_more_room_than_the_server_has_threads_is_reported(
    idle: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    16 threads behind `load_shed(max_concurrent=16)`: requests waited in the server for 5 s, and none was rejected.

    One line names it once every thread is busy each time; there is none while a thread is idle.
    """
    released, ready = threading.Event(), threading.Semaphore(0)

    def app(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        if environ["PATH_INFO"] == "/slow":
            ready.release()
            released.wait()
        return [b"ok"]

    served = Middleware(app, pipeline(circuit_breaker(), load_shed(max_concurrent=16, name="api")))

    def serve(path: str) -> None:
        Exchange(path).begin(served).body.close()

    def rest() -> None:
        serve("/")
        ready.release()
        released.wait()

    workers = [threading.Thread(target=serve, args=["/slow"]) for _ in range(3)]
    workers += [threading.Thread(target=rest) for _ in range(idle)]
    monkeypatch.setattr(busy_threads, "_EVERY", 1)  # each thread is seen at its first request
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    with caplog.at_level("WARNING", logger="resilio"):
        for _ in range(40):
            serve("/")
    released.set()
    for worker in workers:
        worker.join()
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == 1 - idle, found
    assert idle or "load_shed 'api' rejects nothing though all 4 threads of the server are busy" in found[0]


def test_a_middleware_without_a_shedder_counts_no_threads() -> None:
    """A bulkhead has the queue that its user has chosen; nothing is counted for it."""
    assert Middleware(answers(), bulkhead(1))._threads is None
