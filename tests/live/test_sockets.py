"""The page over real sockets: by uvicorn, with viewers that come back, that never read, and that are many."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="uvicorn is not installed")

from resilio import bulkhead, circuit_breaker
from resilio.live import live, start
from resilio.live._feed import Remote, events_in
from resilio.live._serve import listen, serving
from resilio.live._watch import Beside, RemoteLive


def until(met: Callable[[], object]) -> None:
    while not met():
        time.sleep(0.005)


class Client:
    """A viewer with a socket of its own."""

    def __init__(self, port: int, path: str = "/stream", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        self.response = self.connection.getresponse()
        self.events = events_in(self.response)

    def next(self) -> tuple[str, Any]:
        return next(self.events)

    def close(self) -> None:
        self.response.close()
        self.connection.close()


@pytest.fixture
def page() -> Any:
    return live(interval=0.1)


@pytest.fixture
def port(page: Any) -> Iterator[int]:
    with serving(page, listen("127.0.0.1", 0)) as port:
        yield port
    until(lambda: not page.hub.running)


@pytest.mark.real(1.0)
def test_ten_viewers_see_the_same_and_one_that_comes_back_goes_on(page: Any, port: int) -> None:
    """A reading is for all; who comes back with the id of the last event misses nothing."""
    policy = circuit_breaker("payments")
    viewers = [Client(port) for _ in range(10)]
    firsts = [viewer.next() for viewer in viewers]
    assert {name for name, _ in firsts} == {"snapshot"}
    policy.force_open()
    for viewer in viewers:
        seen: list[Any] = []
        while not any(news.get("state") == "forced_open" for news in seen):
            _, data = viewer.next()
            seen += data["changed"]
    last = f"{page.hub.boot}-{data['seq']}"
    viewers.pop().close()
    policy.reset()
    back = Client(port, last_event_id=last)
    name, data = back.next()
    assert name == "delta"
    assert [news["state"] for news in data["changed"]] == ["closed"]
    assert [event["new"] for event in data["events"]] == ["closed"]
    for viewer in (*viewers, back):
        viewer.close()
    until(lambda: len(page.hub) == 0)


@pytest.fixture
def tight_port(page: Any) -> Iterator[int]:
    """A server whose connections hold few bytes on the way."""
    sock = listen("127.0.0.1", 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with serving(page, sock) as port:
        yield port


@pytest.mark.real(1.0)
def test_a_viewer_that_never_reads_holds_up_nobody_and_no_memory(page: Any, tight_port: int) -> None:
    """Its frames wait in a queue of four, beside the system's buffers; others and the calls go on."""
    policies = [circuit_breaker(f"policy {number}") for number in range(300)]
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", tight_port))
    lazy.sendall(b"GET /stream HTTP/1.1\r\nhost: here\r\n\r\n")
    quick = Client(tight_port)
    until(lambda: len(page.hub) == 2)
    viewers = list(page.hub._viewers)
    while not any(viewer.stalled for viewer in viewers):
        for policy in policies:
            assert policy.call(int) == 0
        quick.next()
        assert all(len(viewer._frames) <= 4 for viewer in viewers)
    assert sum(viewer.stalled for viewer in viewers) == 1
    lazy.close()
    until(lambda: len(page.hub) == 1)
    quick.close()


@pytest.mark.real(2.0)
def test_a_server_that_is_told_to_stop_does_not_wait_for_viewers() -> None:
    """uvicorn waits for answers to end: the streams end by themselves, and so does the process."""
    program = (
        "import uvicorn, resilio, sys\n"
        "from resilio.live import live\n"
        "resilio.circuit_breaker('payments')\n"
        "sock = __import__('resilio.live._serve', fromlist=['x']).listen('127.0.0.1', 0)\n"
        "print(sock.getsockname()[1], flush=True)\n"
        "uvicorn.Server(uvicorn.Config(live(interval=0.1), log_level='error')).run(sockets=[sock])\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        viewer = Client(port)
        assert viewer.next()[0] == "snapshot"
        process.terminate()
        assert list(viewer.events)[-1:] is not None  # the stream has an end
        viewer.close()
        process.wait()


def test_a_worker_has_its_page_in_a_thread() -> None:
    """`start` serves it until it is closed, also with viewers that stay; a port that is taken leaves nothing behind."""
    circuit_breaker("payments")
    with start(live(interval=0.1), port=0) as running:
        port = int(running.url.removeprefix("http://127.0.0.1:").rstrip("/"))
        viewer = Client(port)
        assert viewer.next()[1]["policies"][0]["name"] == "payments"
        with pytest.raises(OSError, match=r"."):
            start(live(), port=port)
    running.close()
    assert list(viewer.events) is not None
    viewer.close()
    until(lambda: "resilio-page" not in {thread.name for thread in threading.enumerate()})


@pytest.mark.parametrize(
    ("hosts", "name", "status"),
    [
        (None, "evil.example", 421),
        (None, "localhost", 200),
        (None, "[::1]:80", 200),
        (["shop.internal"], "shop.internal", 200),
        (["shop.internal"], "evil.example", 421),
    ],
)
def test_a_page_on_loopback_is_read_under_names_of_this_machine_only(
    hosts: list[str] | None, name: str, status: int
) -> None:
    """A web page whose own name was made to mean 127.0.0.1 read all policies (DNS rebinding)."""
    with start(live(interval=0.1, hosts=hosts), port=0) as running:
        client = Client(int(running.url.rstrip("/").rpartition(":")[2]), "/snapshot", host=name)
        assert client.response.status == status
        assert (b"not served under that host name" in client.response.read()) is (status == 421)
        client.close()


def test_without_uvicorn_nothing_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, and the socket is closed."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    sock = listen("127.0.0.1", 0)
    with pytest.raises(ImportError, match=r"pip install 'resilio-sdk\[live\]'"), serving(live(), sock):
        pass
    assert sock.fileno() == -1


def test_the_page_stands_beside_an_app(page: Any) -> None:
    """What is under the page's path is the page's, everything else the app's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        else:
            raise RuntimeError("no lifespan here")

    with serving(Beside(app, page), listen("127.0.0.1", 0)) as port:
        answers = {}
        for path in ("/resilio/live.js", "/resilio", "/resilio-not", "/"):
            client = Client(port, path)
            answers[path] = client.response.status
            client.close()
    assert answers == {"/resilio/live.js": 200, "/resilio": 307, "/resilio-not": 204, "/": 204}


@pytest.mark.real(1.5)
def test_the_page_of_another_process_is_shown_here(page: Any, port: int) -> None:
    """Its stream, its details, its snapshot; operations are for the page there."""
    policy = bulkhead(1, name="pool")
    there = Remote(f"http://127.0.0.1:{port}/")
    shown = RemoteLive(there)
    shown.hub.interval = page.hub.interval
    with serving(shown, listen("127.0.0.1", 0)) as here:
        viewer = Client(here)
        seen: dict[str, Any] = {}
        with policy.permit():
            policy.try_call(int)
            while not seen.get("why"):
                _, data = viewer.next()
                for news in data.get("policies", []) + data.get("changed", []):
                    seen |= news
        assert (seen["name"], seen["why"]["reason"]) == ("pool", "full")
        for path, status in [("/snapshot", 200), (f"/policy?id={seen['id']}", 200), ("/policy?id=99", 404)]:
            client = Client(here, path)
            assert client.response.status == status
            body = client.response.read()
            if status == 200:
                assert b"pool" in body
            client.close()
        connection = http.client.HTTPConnection("127.0.0.1", here)
        connection.request("POST", "/operate", body=json.dumps({"do": "reset"}))
        assert connection.getresponse().status == 403
        connection.close()
        viewer.close()
        until(lambda: not page.hub._viewers)


def test_a_process_that_is_gone_is_said_to_be_and_found_again() -> None:
    """Who watches another process sees that it is gone, and its new self when it is back."""
    from resilio.live import _feed

    circuit_breaker("payments")
    first = live(interval=0.1)
    sock = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    source = Remote(f"http://127.0.0.1:{port}")

    def state() -> str:
        try:
            source.read()
        except ConnectionError as error:
            return str(error)
        return ",".join(policy["name"] for policy in source.snapshot()["policies"])

    _feed_pause, _feed._PAUSE = _feed._PAUSE, 0.05
    try:
        with serving(first, sock):
            until(lambda: state() == "payments")
        until(lambda: "payments" not in state())
        bulkhead(3, name="pool")
        with serving(live(interval=0.1), listen("127.0.0.1", port)):
            until(lambda: state() == "payments,pool")
            source.rest()
        with pytest.raises(ConnectionError):
            Remote(f"http://127.0.0.1:{port}").get("snapshot")
    finally:
        _feed._PAUSE = _feed_pause
        source.rest()


def test_a_server_that_is_no_live_page_is_said_to_be_none() -> None:
    """Strange events and other pages are trouble told to who looks, not the end of the thread."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            status = 200 if scope["path"] == "/strange/stream" else 404
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"event: snapshot\ndata: 7\n\n"})

    with serving(app, listen("127.0.0.1", 0)) as port:
        for path, problem in [("strange", "'int' object"), ("other", "404 Not Found")]:
            source = Remote(f"http://127.0.0.1:{port}/{path}")
            until(lambda source=source, problem=problem: problem in _problem(source))
            source.rest()


def _problem(source: Remote) -> str:
    with pytest.raises(ConnectionError) as found:
        source.read()
    return str(found.value)


def test_a_port_that_is_taken_is_an_error_and_no_server() -> None:
    """The address is bound before anything else starts; the second worker of a machine reads what to do."""
    with (
        listen("127.0.0.1", 0) as sock,
        pytest.raises(OSError, match=r"is in use, .*: port 0 takes a free one") as found,
    ):
        listen("127.0.0.1", sock.getsockname()[1])
    assert found.value.errno == errno.EADDRINUSE


def test_a_server_that_does_not_start_is_an_error() -> None:
    """An app whose startup fails is said to, and nothing hangs."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"), serving(app, listen("127.0.0.1", 0)):
        pass
    until(lambda: "resilio-page" not in {thread.name for thread in threading.enumerate()})
