"""The adapter for requests against a server that misbehaves: permits to the end of bodies, rejections, retries."""

from __future__ import annotations

import copy
import errno
import functools
import gc
import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from servers.misbehaving import Exchange, Misbehaving, closed_port

import resilio
from resilio import (
    bulkhead,
    circuit_breaker,
    deadline,
    fallback,
    hedge,
    keyed,
    override,
    pipeline,
    rate_limit,
    retry,
    standard,
    timeout,
)

requests: Any = pytest.importorskip("requests", reason="requests is not installed")

from resilio.integrations.requests import Adapter, host  # noqa: E402 - where requests is missing, so is this

SOON = (5.0, 0.05)


def bad(response: Any) -> bool:
    """A status that says the server is unwell."""
    return bool(response.status_code >= 500)


def breaker_of(**options: Any) -> Any:
    """A breaker that takes a 5xx for a failure."""
    return circuit_breaker(**{"failed_if": bad, **options})


def quick(**options: Any) -> Any:
    """A retry that does not wait, and pays nothing."""
    return retry(**{"backoff": 0.0, "on": Exception, "budget": None, **options})


def counted(policy: Any) -> dict[str, int]:
    """What a policy has counted, but for what is zero."""
    shown = policy.snapshot()
    names = ("inflight", "successes", "failures", "ignored", "rejected", "abandoned")
    return {name: getattr(shown, name) for name in names if getattr(shown, name)}


def opened(policy: Any, **options: Any) -> Any:
    """A session under guard."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter(policy, **options))
    return session


FAULTS: dict[str, tuple[str, str | None, dict[str, int]]] = {
    "ok": ("/ok", None, {"successes": 1}),
    "empty": ("/empty", None, {"successes": 1}),
    "zipped": ("/gzip", None, {"successes": 1}),
    "dripping": ("/drip?n=3", None, {"successes": 1}),
    "503": ("/status/503?retry-after=1", None, {"failures": 1}),
    "529": ("/status/529", None, {"failures": 1}),
    "429": ("/status/429", None, {"successes": 1}),
    "error in 200": ("/error-in-200", None, {"successes": 1}),
    "no answer": ("/reject", "ConnectionError", {"failures": 1}),
    "cut": ("/die-mid-body", "ChunkedEncodingError", {"failures": 1}),
    "reset": ("/die-mid-body?reset=1", "ChunkedEncodingError", {"failures": 1}),
    "hangs before headers": ("/reject-headers", "ReadTimeout", {"failures": 1}),
    "hangs in the body": ("/hang-mid-body", "ConnectionError", {"failures": 1}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_judged_when_the_body_ends(server: Misbehaving, fault: str) -> None:
    """A fault raises what it raises without a guard, is a failure by requests' own errors, and holds nothing."""
    path, error, learned = FAULTS[fault]
    breaker, raised = breaker_of(on=requests.RequestException), None
    with opened(breaker) as http:
        try:
            http.get(server.url + path, timeout=SOON if "hang" in path or "headers" in path else 30.0)
        except requests.RequestException as caught:
            raised = type(caught).__name__
    assert (raised, counted(breaker)) == (error, learned)
    name = path.partition("?")[0]
    assert server.requests[name] == 1
    counter = server.cut if error in ("ConnectionError", "ChunkedEncodingError") and "hang" not in name else None
    assert counter is None or counter[name] == 1
    if "hang" in name or "headers" in name:
        server.until(lambda: server.left[name] == 1)


def test_a_corrupt_body_is_a_failure(server: Misbehaving) -> None:
    """What cannot be decoded is told by rules of requests' own errors as well."""

    async def corrupt(exchange: Any) -> None:
        await exchange.answer(b"no gzip at all", headers={"content-encoding": "gzip"})

    server.routes["/corrupt"] = corrupt
    breaker = breaker_of(on=requests.exceptions.ContentDecodingError)
    with opened(breaker) as http, pytest.raises(requests.exceptions.ContentDecodingError):
        http.get(server.url + "/corrupt")
    assert counted(breaker) == {"failures": 1}


def test_a_header_that_makes_no_sense_is_a_failure(server: Misbehaving) -> None:
    """Here InvalidHeader is about the server's: the caller's are looked at before."""

    async def contradict(exchange: Any) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nno")
        exchange.keep = False

    server.routes["/contradict"] = contradict
    breaker = breaker_of()
    with opened(breaker) as http, pytest.raises(requests.exceptions.InvalidHeader):
        http.get(server.url + "/contradict")
    assert counted(breaker) == {"failures": 1}


def test_a_rejected_connection_is_a_failure() -> None:
    """Nobody listens: that is the dependency's."""
    breaker = breaker_of()
    with closed_port() as port, opened(breaker) as http, pytest.raises(requests.ConnectionError):
        http.get(f"http://127.0.0.1:{port}/")
    assert counted(breaker) == {"failures": 1}


def test_cb16_caller_mistakes_are_not_dependency_failures() -> None:
    """CB-16: what requests itself rejects to send does not open a breaker."""
    breaker = circuit_breaker(consecutive=1)
    adapter = Adapter(breaker)
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    request.url = "http://"
    with pytest.raises(requests.exceptions.InvalidURL):
        adapter.send(request)
    assert counted(breaker) == {"ignored": 1}
    adapter.close()


@pytest.mark.parametrize("option", ["verify", "cert"])
def test_cb16_a_certificate_that_is_not_there_is_the_callers_mistake(option: str) -> None:
    """CB-16: requests says so before it connects, in a plain OSError, which counted as the server's failure."""
    breaker = breaker_of(consecutive=1)
    with opened(breaker) as http, pytest.raises(OSError, match="/nowhere"):
        http.get("https://127.0.0.1:1/", **{option: "/nowhere"})
    assert counted(breaker) == {"ignored": 1}


def test_a_body_that_raises_is_no_failure_of_who_was_to_have_it(server: Misbehaving) -> None:
    """What the caller's own generator raises says nothing about the server."""

    def raising() -> Iterator[bytes]:
        yield b"some"
        raise ValueError("mine")

    breaker = circuit_breaker(consecutive=1)
    with opened(breaker) as http, pytest.raises(ValueError, match="mine"):
        http.post(server.url + "/ok", data=raising())
    assert counted(breaker) == {"ignored": 1}


class BrokenFile(io.BytesIO):
    """A file that cannot be read."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        raise OSError(errno.EIO, "mine")


def broken_parts() -> Iterator[bytes]:
    yield b"some"
    raise TimeoutError(errno.ETIMEDOUT, "mine")


def another_answer() -> Iterator[bytes]:
    yield b"some"
    raise requests.ConnectionError("mine: of the answer that the body is read from")


BROKEN: dict[str, Callable[[], Any]] = {
    "a file": lambda: BrokenFile(b"all"),
    "a generator": broken_parts,
    "an iterator in C": lambda: iter(functools.partial(os.read, -1, 9), b""),
    "another answer": another_answer,
}


@pytest.mark.parametrize("body", [*BROKEN])
@pytest.mark.parametrize("inside", [lambda breaker: breaker, lambda breaker: pipeline(retry(on=KeyError), breaker)])
def test_a_body_that_cannot_be_read_is_no_failure_of_who_was_to_have_it(
    server: Misbehaving, body: str, inside: Any
) -> None:
    """An OSError of the caller's file came out as a lost connection, and opened the breaker of a good server."""
    breaker = circuit_breaker(consecutive=1)
    with opened(inside(breaker)) as http, pytest.raises(requests.RequestException):
        http.post(server.url + "/ok", data=BROKEN[body]())
    assert counted(breaker) == {"ignored": 1}


def test_a_body_that_cannot_be_read_is_not_tried_again(server: Misbehaving) -> None:
    """It may be sent twice, and retries take what it raises for a lost connection; but it would be no better."""
    file = BrokenFile(b"all")
    with opened(retry(on=requests.ConnectionError, backoff=0.0)) as http, pytest.raises(requests.ConnectionError):
        http.put(server.url + "/ok", data=file)
    assert file.reads == 1


def test_a_server_that_is_not_there_fails_also_who_has_a_body() -> None:
    """The body was never asked for."""
    breaker = breaker_of()
    with closed_port() as port, opened(breaker) as http, pytest.raises(requests.ConnectionError):
        http.post(f"http://127.0.0.1:{port}/", data=broken_parts())
    assert counted(breaker) == {"failures": 1}


def test_cb20_a_rejection_is_a_request_exception_and_no_leaf(server: Misbehaving) -> None:
    """CB-20: `except RequestException` catches a rejection; retries on ConnectionError or Timeout do not match it."""
    breaker = breaker_of(name="payments")
    breaker.force_open()
    with opened(breaker) as http, pytest.raises(requests.RequestException) as caught:
        http.get(server.url + "/ok")
    error: Any = caught.value
    assert isinstance(error, resilio.CircuitOpenError)
    assert not isinstance(error, (requests.ConnectionError, requests.Timeout))
    assert (error.policy, error.name, error.reason, error.called) == (
        "circuit_breaker",
        "payments",
        "forced_open",
        False,
    )
    assert (error.request.url, error.response) == (server.url + "/ok", None)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) == "circuit_breaker 'payments' rejected the call: forced_open"
    assert server.total == 0


def test_a_rejection_can_be_a_response(server: Misbehaving) -> None:
    """With `on_reject="respond"` the caller gets a response."""
    limit = rate_limit("1/h")
    with opened(limit, on_reject="respond") as http:
        http.get(server.url + "/ok")
        response = http.get(server.url + "/ok")
    assert (response.status_code, response.headers["x-should-retry"]) == (429, "false")
    assert int(response.headers["retry-after"]) > 0
    assert isinstance(response.resilio_rejection, resilio.RateLimitedError)
    assert response.text == str(response.resilio_rejection)
    assert server.total == 1


def test_a_deadline_that_has_passed_is_one_too(server: Misbehaving) -> None:
    """What cannot be begun any more is told in the client's terms."""
    room = bulkhead(1, max_queued=1, max_wait=1.0)
    held = room.acquire()
    with opened(pipeline(deadline(0.01), room)) as http, pytest.raises(requests.RequestException) as caught:
        http.get(server.url + "/ok")
    assert isinstance(caught.value, resilio.DeadlineExceededError)
    held.success()


def test_a_permit_lasts_to_the_end_of_a_streamed_body(server: Misbehaving) -> None:
    """With `stream=True` the permit is held at the headers, and free at the last byte."""
    room = bulkhead(1)
    with opened(room) as http:
        with http.get(server.url + "/drip?n=3", stream=True) as response:
            assert counted(room) == {"inflight": 1}
            assert b"".join(response.iter_content(1)) == b"xxx"
            assert counted(room) == {"successes": 1}
        with http.get(server.url + "/ok?size=10", stream=True) as response:
            assert response.raw.read(4) == b"xxxx"
            assert response.raw.status == 200
            assert counted(room) == {"successes": 1, "inflight": 1}
            assert b"".join(iter(response.raw)) == b"x" * 6
        with http.get(server.url + "/ok?size=10", stream=True) as response:
            assert response.raw.read(10) == b"x" * 10
            assert response.raw.read(1) == b""
        assert counted(room) == {"successes": 3}


def copied(raw: Any) -> bytes:
    """As the usual way to save what was downloaded."""
    target = io.BytesIO()
    shutil.copyfileobj(raw, target)
    return target.getvalue()


def entered(raw: Any) -> bytes:
    """Read within a `with`."""
    with raw as itself:
        return b"".join(itself.stream(3))


READERS: dict[str, Callable[[Any], bytes]] = {
    "copyfileobj": copied,
    "data": lambda raw: raw.data,
    "read1": lambda raw: b"".join(iter(raw.read1, b"")),
    "readinto": lambda raw: io.BufferedReader(raw).read(),
    "readlines": lambda raw: b"".join(raw.readlines()),
    "next": lambda raw: b"".join(iter(lambda: next(raw, b""), b"")),
    "with": entered,
    "drain_conn": lambda raw: raw.drain_conn() or b"x" * 10,
}


@pytest.mark.parametrize("reader", READERS)
def test_the_raw_response_is_read_as_without_a_guard(server: Misbehaving, reader: str) -> None:
    """Whatever reads `response.raw` to its end is seen to, and `decode_content` is set where it works."""
    room = bulkhead(1)
    with opened(room) as http, http.get(server.url + "/ok?size=10", stream=True) as response:
        assert response.raw
        assert isinstance(response.raw, io.IOBase)
        response.raw.decode_content = True
        assert response.raw._inner.decode_content is True
        assert counted(room) == {"inflight": 1}
        assert READERS[reader](response.raw) == b"x" * 10
        assert counted(room) == {"successes": 1}


@pytest.mark.parametrize("reader", ["copyfileobj", "data", "readlines", "with"])
def test_a_raw_response_that_breaks_off_is_a_failure_whatever_reads_it(server: Misbehaving, reader: str) -> None:
    """The error of whatever reads the raw response is that of the body."""
    breaker = breaker_of(on=requests.RequestException)
    with opened(breaker) as http:
        response = http.get(server.url + "/die-mid-body", stream=True)
        with response, pytest.raises(Exception, match=r"IncompleteRead|Connection broken"):
            READERS[reader](response.raw)
    assert counted(breaker) == {"failures": 1}


def test_a_raw_response_that_is_no_json_is_whole_nevertheless(server: Misbehaving) -> None:
    """The reader's own error says nothing of the server, which has sent all of the body."""
    breaker = breaker_of(on=Exception)
    with opened(breaker) as http:
        response = http.get(server.url + "/ok?size=10", stream=True)
        with response, pytest.raises(ValueError, match="Expecting value"):
            response.raw.json()
    assert counted(breaker) == {"successes": 1}


def test_a_body_that_is_closed_says_nothing(server: Misbehaving) -> None:
    """`response.close()` before the end is no outcome, unless the status was bad; a body of nothing is complete."""
    breaker = breaker_of()
    with opened(breaker) as http:
        response = http.get(server.url + "/drip?n=0", stream=True)
        assert next(response.iter_content(1)) == b"x"
        response.close()
        response.close()
        assert counted(breaker) == {"ignored": 1}
        http.get(server.url + "/status/503", stream=True).close()
        assert counted(breaker) == {"ignored": 1, "failures": 1}
        http.head(server.url + "/ok", stream=True).close()
        http.get(server.url + "/empty", stream=True).close()
    assert counted(breaker) == {"ignored": 1, "failures": 1, "successes": 2}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_an_abandoned_response_comes_back_when_it_is_collected(server: Misbehaving) -> None:
    """A response that nobody closes, or whose items somebody stops taking, is abandoned."""
    room = bulkhead(1)
    with opened(room) as http:
        for _ in http.get(server.url + "/drip?n=0", stream=True).iter_content(1):
            break
        gc.collect()
        assert counted(room) == {"ignored": 1, "abandoned": 1}
        http.get(server.url + "/drip?n=0", stream=True)
        gc.collect()
    assert counted(room) == {"ignored": 2, "abandoned": 2}


def test_errors_of_a_raw_read_are_failures(server: Misbehaving) -> None:
    """Who reads the raw body sees urllib3's errors; the breaker is told those of requests."""
    breaker = breaker_of(on=requests.RequestException)
    with opened(breaker) as http:
        response = http.get(server.url + "/die-mid-body", stream=True)
        with response, pytest.raises(Exception, match=r"IncompleteRead|Connection broken"):
            response.raw.read()
    assert counted(breaker) == {"failures": 1}


def test_retries_judge_by_headers_and_close_what_failed(server: Misbehaving) -> None:
    """RT-09: a bad answer is closed before the next attempt, which has the permit; the last one is the caller's."""
    room = bulkhead(1)
    with opened(pipeline(quick(failed_if=bad), room)) as http:
        assert http.get(server.url + "/status/503?times=2").status_code == 200
        assert counted(room) == {"failures": 2, "successes": 1}
        assert http.get(server.url + "/status/500").content == b"no"
    assert server.requests == {"/status/503": 3, "/status/500": 3}


def parts() -> Iterator[bytes]:
    """A body that can be read once."""
    yield b"once"


class Told:
    """One that knows where it is, and cannot go back."""

    def __init__(self) -> None:
        self.left = [b"once"]

    def tell(self) -> int:
        return 0

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            yield self.left.pop()


@pytest.mark.parametrize(
    ("method", "options", "rule", "sent"),
    [
        ("GET", {}, None, 3),
        ("POST", {}, None, 1),
        ("POST", {"headers": {"Idempotency-Key": "1"}}, None, 3),
        ("POST", {"data": b"x"}, True, 3),
        ("POST", {"data": {"a": "b"}}, True, 3),
        ("GET", {}, False, 1),
        ("POST", {"data": parts}, True, 1),
        ("POST", {"data": Told}, True, 1),
        ("PUT", {"data": lambda: io.BytesIO(b"file")}, None, 3),
    ],
)
def test_what_must_not_be_done_twice_is_not_sent_twice(
    server: Misbehaving, method: str, options: dict[str, Any], rule: Any, sent: int
) -> None:
    """A request is tried again if that does no harm and its body is still there, which is sent whole."""
    bodies: list[bytes] = []

    async def reject(exchange: Any) -> None:
        bodies.append(exchange.body)
        exchange.cut()

    server.routes["/reject"] = reject
    given = {name: value() if callable(value) else value for name, value in options.items()}
    with opened(quick(), idempotent=rule) as http, pytest.raises(requests.ConnectionError) as caught:
        http.request(method, server.url + "/reject", **given)
    assert caught.value.resilio.stop_reason == ("not_replayable" if sent == 1 else "attempts")
    assert len(bodies) == sent
    assert len(set(bodies)) == 1


@pytest.mark.parametrize(
    ("method", "body", "sent"), [("POST", b"x", 1), ("PUT", b"x", 2), ("PUT", io.BytesIO(b"file"), 1)]
)
@pytest.mark.real(1.5)
def test_what_a_timeout_has_ended_is_not_sent_twice_either(
    server: Misbehaving, method: str, body: Any, sent: int
) -> None:
    """
    The server has the request all the same, and the thread that goes on may still read the file.

    The thread's socket has the same time: where that ends first, the thread is over, and a file may be sent again.
    """
    policy = pipeline(quick(attempts=2), timeout(0.5, thread=True))  # time enough to connect
    with opened(policy) as http, pytest.raises(resilio.CallTimeoutError) as caught:
        http.request(method, server.url + "/reject-headers", data=body)
    reason = caught.value.resilio.stop_reason
    if isinstance(body, io.BytesIO) and reason == "attempts":
        sent = 2
    assert reason == ("not_replayable" if sent == 1 else "attempts")
    server.until(lambda: server.hung["/reject-headers"] == sent)


def test_retries_inside_of_retries_are_switched_off(server: Misbehaving) -> None:
    """`max_retries` of an adapter whose policy retries is set to 0, with a warning; of another it is left alone."""
    with pytest.warns(RuntimeWarning, match="max_retries of the adapter is set to 0"):
        adapter = Adapter(quick(), max_retries=3)
    assert adapter.max_retries.total == 0
    assert Adapter(bulkhead(1), max_retries=3).max_retries.total == 3


def test_each_host_has_a_policy_of_its_own(server: Misbehaving) -> None:
    """A host that is down does not shut out another; redirects are requests of their own."""
    per_host = keyed(lambda: breaker_of(consecutive=1), key=host)
    with opened(per_host) as http:
        with closed_port() as port:
            for error in (requests.ConnectionError, resilio.CircuitOpenError):
                with pytest.raises(error):
                    http.get(f"http://127.0.0.1:{port}/")
        assert http.get(server.url + "/redirect?to=/ok").status_code == 200
    assert counted(per_host[f"127.0.0.1:{server.port}"]) == {"successes": 2}
    for url, expected in (
        ("https://user:word@Example.org?q=/", "example.org"),
        ("http://example.org:80/", "example.org"),
        ("https://example.org:443", "example.org"),
        ("https://example.org:80/", "example.org:80"),
        ("http://[::1]:80/@x", "[::1]"),
    ):
        assert host(requests.Request("GET", url).prepare()) == expected


def test_a_deadline_goes_along_if_asked_for(server: Misbehaving) -> None:
    """The header says what is left."""
    with opened(bulkhead(1), send_deadline=True) as http:
        assert "x-request-timeout" not in http.get(server.url + "/echo").json()["headers"]
        with deadline(30):
            assert 0 < float(http.get(server.url + "/echo").json()["headers"]["x-request-timeout"]) <= 30


def test_a_standard_stack_guards_a_session(server: Misbehaving) -> None:
    """A standard stack is used without what needs an event loop."""
    stack = standard("service", on="http", idempotent=True, backoff=0.0)
    with opened(stack) as http:
        assert http.get(server.url + "/status/503?times=1").status_code == 200
        assert http.adapters["http://"].policy is stack
    assert counted(stack) == {"successes": 1}


@pytest.mark.parametrize(
    "around", [lambda policy: policy, pipeline, lambda policy: keyed(lambda: override(policy), key=host)]
)
def test_what_cannot_guard_a_session_says_so_of_the_session(around: Any) -> None:
    """It named a function of ours, at an address, and said to make that async; timeouts can, by its sockets."""
    Adapter(around(timeout(1.0))).close()
    with pytest.raises(TypeError, match=r"^hedge cannot guard requests\.Session, .* Use a client that is async"):
        Adapter(around(hedge(idempotent=True)))
    with pytest.raises(TypeError, match=r"requests\.Session has no such parameter; it has: request"):
        Adapter(keyed(circuit_breaker, key="host"))


def test_sessions_are_copied_and_pickled_with_their_policies(server: Misbehaving) -> None:
    """
    A session goes to another process as before, its policy by name: here that is the same one.

    The copy had an adapter without a policy, and raised AttributeError for each request.
    """
    breaker = breaker_of(name="pickled-with-a-session")
    with opened(breaker, on_reject="respond", send_deadline=True) as http:
        copies = [pickle.loads(pickle.dumps(http)), copy.deepcopy(http)]
    for again in copies:
        with again, deadline(30):
            assert "x-request-timeout" in again.get(server.url + "/echo").json()["headers"]
    assert counted(breaker) == {"successes": 2}
    breaker.force_open()
    with copies[0] as again:
        assert again.get(server.url + "/ok").status_code == 503
    with opened(breaker_of()) as http, pytest.raises(TypeError, match="give it a name"):
        pickle.dumps(http)


@pytest.mark.parametrize("of", [breaker_of, lambda: pipeline(quick(), breaker_of())])
def test_what_replaces_the_adapters_send_is_asked(of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who replaces `HTTPAdapter.send` after a session was made, as mocks and tracers do, replaces it for this one too.

    The adapter had kept the method that was there when it was made: tests of its users went out to the network.
    """

    def instead(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        made = requests.Response()
        made.status_code, made._content, made.raw = 200, b"mocked", io.BytesIO()
        return made

    policy = of()
    with opened(policy) as http:
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", instead)
        assert http.get("http://127.0.0.1:1/").text == "mocked"
    assert counted(policy) == {"successes": 1}


def test_a_fallbacks_answer_is_guarded_by_what_is_outside() -> None:
    """A response made by hand ends what is held outside of the fallback: at once, or with its body."""
    breaker = breaker_of()
    breaker.force_open()
    answers = []
    for content in (False, b"old"):
        made = requests.Response()
        made.status_code, made._content, made.raw = 200, content, io.BytesIO(b"new")
        answers.append(made)
    room = pipeline(fallback(on=resilio.RejectedError, handler=lambda error: answers.pop()), breaker)
    with opened(room) as http:
        assert http.get("http://host/").content == b"old"
        response = http.get("http://host/", stream=True)
        assert counted(room) == {"successes": 1, "inflight": 1}
        assert response.raw.read() == b"new"
    assert counted(room) == {"successes": 2}


def test_a_timeout_of_a_thread_is_told_as_the_clients(server: Misbehaving) -> None:
    """`timeout(thread=True)` gives the caller back; what is raised is requests' Timeout as well."""
    with opened(timeout(0.05, thread=True), on_reject="respond") as http, pytest.raises(requests.Timeout) as caught:
        http.get(server.url + "/reject-headers", timeout=0.5)
    assert isinstance(caught.value, resilio.CallTimeoutError)
    server.until(lambda: server.left["/reject-headers"] == 1)


async def with_cookie(exchange: Exchange) -> None:
    """Answer with a cookie."""
    await exchange.raw(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok")


@pytest.mark.parametrize("kept", [True, False])
def test_cookies_are_found_where_requests_looks_for_them(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """A urllib3 without `_original_response` has cookies for no session, guarded or not; its answers are read."""
    server.routes["/cookie"] = with_cookie
    urlopen = urllib3.HTTPConnectionPool.urlopen

    def without(*args: Any, **options: Any) -> Any:
        answer = urlopen(*args, **options)
        if kept:
            return answer
        options = {"headers": answer.headers, "status": answer.status, "preload_content": False}
        return urllib3.HTTPResponse(io.BytesIO(answer.read()), **options)

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", without)
    breaker, bare = breaker_of(), requests.Session()
    bare.trust_env = False
    with opened(breaker) as http, bare:
        for session in (http, bare):
            assert session.get(server.url + "/cookie").status_code == 200
            assert dict(session.cookies) == ({"a": "b"} if kept else {})
    assert counted(breaker) == {"successes": 1}
