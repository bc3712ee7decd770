"""The page as an ASGI app: what it answers to whom, where it is mounted, and what it rejects."""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import threading
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest

from oracles.asgi_client import Response, request
from resilio import bulkhead, circuit_breaker, fallback, keyed, pipeline, rate_limit, registry, retry
from resilio._composition.pipeline import PipelineWarning
from resilio.live import _app, live
from resilio.live._feed import Remote, events_in
from resilio.live._http import Answer, Rejected
from resilio.live._sampler import Sampler
from resilio.live._watch import RemoteLive

TOKEN = "correct horse battery staple"
READ = "only for looking at it"
pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json", "host": "here"}


def told(response: Response) -> Any:
    return json.loads(response.body)


async def operate(app: Any, asked: object, *, token: str | None = TOKEN, **headers: str) -> Response:
    """Ask for an operation, as the page does unless `headers` say otherwise."""
    sent = JSON | ({"authorization": f"Bearer {token}"} if token else {})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return await request(app, "POST", "/operate", headers=sent | named, body=body)


async def ids(app: Any) -> tuple[str, dict[str, int]]:
    seen = told(await request(app, path="/snapshot", headers={"authorization": f"Bearer {TOKEN}"}))
    return seen["boot"], {policy["name"]: policy["id"] for policy in seen["policies"]}


@pytest.mark.parametrize(
    ("path", "kind", "has"),
    [
        ("/", "text/html; charset=utf-8", b"<title>resilio</title>"),
        *((f"/{name}", "text/javascript; charset=utf-8", b"import {") for name in ("live.js", "row.js", "stream.js")),
        ("/live.css", "text/css; charset=utf-8", b"prefers-reduced-motion"),
        ("/icon.svg", "image/svg+xml", b"<svg"),
    ],
)
async def test_the_page_is_files_without_anything_from_elsewhere(path: str, kind: str, has: bytes) -> None:
    """HTML, script and style come from the package, under a policy that allows no other source and no inline code."""
    answer = await request(live(), path=path)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    assert has in answer.body
    assert b"http://" not in answer.body.replace(b"http://www.w3.org", b"")
    assert b"https://" not in answer.body
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = await request(live(), "HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(answer.body)))


async def test_a_browser_keeps_the_files_until_they_are_others() -> None:
    """It asks each time with the tag of what it has, and gets the file only if that is another one."""
    first = await request(live(), path="/live.js")
    assert first.headers["cache-control"] == "no-cache"
    for sent in (first.headers["etag"], f'W/{first.headers["etag"]}, "other"'):
        again = await request(live(), path="/live.js", headers={"if-none-match": sent})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = await request(live(), path="/live.js", headers={"if-none-match": '"other"'})
    assert (other.status, other.body) == (200, first.body)
    assert (await request(live(), path="/snapshot")).headers["cache-control"] == "no-store"


def test_the_modules_of_the_page_fit_together() -> None:
    """Each import names what that module exports, all are loaded at once with the page, and none is long."""
    static = files("resilio.live").joinpath("static")
    scripts = {file.name: file.read_text() for file in static.iterdir() if file.name.endswith(".js")}
    given = {
        name: set(re.findall(r"^export (?:async )?(?:function|class|const|let) ([\w$]+)", text, re.MULTILINE))
        for name, text in scripts.items()
    }
    for name, text in scripts.items():
        assert text.count("\n") < 250, name
        for wanted, of in re.findall(r'^import \{ (.*) \} from "./(.*)";$', text, re.MULTILINE):
            assert set(wanted.split(", ")) <= given[of], f"{name} wants of {of}"
    page = static.joinpath("index.html").read_text()
    assert set(re.findall(r'(?:modulepreload" href|script src)="([^"]*)"', page)) == set(scripts)


@pytest.mark.parametrize(
    ("path", "root"),
    [("/resilio/live.js", "/resilio"), ("/live.js", "/resilio"), ("/a/b/resilio/live.js", ""), ("/live.js", "")],
)
async def test_the_page_works_wherever_it_is_mounted(path: str, root: str) -> None:
    """Servers and frameworks differ in what they leave of the path."""
    assert (await request(live(), path=path, root_path=root)).status == 200


async def test_the_mount_without_its_slash_is_sent_to_the_page() -> None:
    """What the page loads stands beside it, so its address must end in a slash."""
    answer = await request(live(), path="/admin/resilio", root_path="/admin/resilio")
    assert (answer.status, answer.headers["location"]) == (307, "resilio/")


async def test_what_is_not_there_is_said_so() -> None:
    """Wrong pages, wrong methods, policies that are no more."""
    assert (await request(live(), path="/nothing")).status == 404
    answer = await request(live(), "DELETE", "/stream")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = await request(live(), "GET", "/operate")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    for query in ("", "?id=7", "?id=x", "?id=-1", "?id=99999999999999"):
        assert (await request(live(), path="/policy" + query)).status == 404
    assert (await request(live(), path="/hystrix.stream")).status == 404


async def test_lifespan_and_websockets_are_answered() -> None:
    """Served alone, servers ask for the lifespan; nobody needs a websocket."""
    sent: list[Mapping[str, Any]] = []
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    await live()({"type": "lifespan"}, receive, send)
    await live()({"type": "websocket"}, receive, send)
    assert [one["type"] for one in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]


async def test_the_stream_begins_with_everything() -> None:
    """The first event is a snapshot, with an id, of all policies; when the client goes, nobody watches any more."""
    policy, app = circuit_breaker("payments", consecutive=1), live(interval=0.1)
    policy.try_call(int, "x")
    answer = await request(app, path="/stream", stop=lambda body: body.endswith(b"\n\n"))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    ((name, seen),) = events_in(answer.body.splitlines(keepends=True))
    assert name == "snapshot"
    assert (seen["operations"], seen["interval"]) == (False, 0.1)
    assert [(one["name"], one["state"]) for one in seen["policies"]] == [("payments", "open")]
    assert seen["events"][0]["new"] == "open"
    assert f"id: {seen['boot']}-{seen['seq']}\n".encode() in answer.body
    assert len(app.hub) == 0
    assert (await request(app, "HEAD", "/stream")).body == b""


async def test_too_many_viewers_are_told_when_to_come_again() -> None:
    """A page that everybody opens does not take the service down."""
    answer = await request(live(max_viewers=0), path="/stream")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_one_policy_in_full() -> None:
    """Options in words, totals, rejections by reason, latencies, and no data of callers."""
    app = live()
    policy = bulkhead(1, name="pool")
    with policy.permit():
        policy.try_call(int)
    fallback(name="answers", on=OSError, ignore=(KeyError,), default="a secret")
    rate_limit("10/s", cost=lambda n: n, name="quota")
    with pytest.warns(PipelineWarning):
        pipeline(bulkhead(2, name="b"), circuit_breaker("c", window=(5, "3s")), name="whole")
    circuit_breaker("judged", on=_Judge())
    hosts = keyed(lambda: circuit_breaker(consecutive=1), key=lambda host: host, name="hosts")
    with pytest.raises(OSError, match="host"):
        hosts(_raises)("host-1")
    _, known = await ids(app)
    pages = {name: await request(app, path=f"/policy?id={ident}") for name, ident in known.items()}
    seen = {name: told(page) for name, page in pages.items()}
    assert seen["pool"]["rejections"] == {"full": 1}
    assert seen["pool"]["numbers"]["rejected"] == 1
    assert seen["pool"]["latency"].keys() == {"p50", "p90", "p95", "p99", "p99.9", "max"}
    assert {"name": "max_concurrent", "value": "1", "plain": True} in seen["pool"]["options"]
    answers = {one["name"]: one for one in seen["answers"]["options"]}
    assert (answers["default"]["value"], answers["default"]["plain"]) == ("<str>", False)
    assert (answers["on"]["value"], answers["ignore"]["value"]) == ("OSError", "KeyError")
    assert "<_Judge>" in [one["value"] for one in seen["judged"]["options"]]
    quota = {one["name"]: one["value"] for one in seen["quota"]["options"]}
    assert quota["rates"] == "10/s"
    assert "<lambda>" in quota["cost"]
    assert [step["kind"] for step in seen["whole"]["explain"]["steps"]] == ["bulkhead", "circuit_breaker"]
    assert seen["whole"]["explain"]["steps"][1]["options"] == {"window": "5 calls and 3 s"}
    assert "bulkhead" in seen["whole"]["explain"]["warnings"][0]
    assert [key["state"] for key in seen["hosts"]["keys"]] == ["open"]
    assert b"secret" not in pages["answers"].body
    assert b"host-1" not in pages["hosts"].body


class _Judge:
    """Somebody's own object, of which nothing is asked."""

    @property
    def rate(self) -> str:
        raise RuntimeError

    def __call__(self, error: Exception) -> bool:
        return True


def _raises(host: str) -> None:
    raise OSError(host)


async def test_keys_of_a_policy_without_states_are_shown() -> None:
    """
    A keyed limit and a keyed retry had "no keys" in the table and none in the details, having no states.

    The keys with most rejected calls are first, then those with most failures, then the busiest; they are 50 at most.
    """
    limits = keyed(lambda: rate_limit("1/h"), key=lambda host: host, name="limits")
    retries = keyed(lambda: retry(on=OSError, attempts=1), key=lambda host: host, name="retries")
    for calls, host in enumerate(["quiet", "noisy"], 1):
        for _ in range(calls):
            limits.try_call(str, host)
    for host in range(60):
        retries.try_call(_raises if host == 59 else str, host)
    app = live(show_keys=True)
    rows = {row["name"]: row for row in told(await request(app, path="/snapshot"))["policies"]}
    assert (rows["limits"]["keys"], rows["retries"]["keys"]) == (2, 60)
    keys = {name: told(await request(app, path=f"/policy?id={row['id']}"))["keys"] for name, row in rows.items()}
    limited = [(key["key"], key["calls"], key["rejected"]) for key in keys["limits"]]
    assert limited == [("'noisy'", 2, 1), ("'quiet'", 1, 0)]
    assert (len(keys["retries"]), keys["retries"][0]["key"], keys["retries"][0]["failures"]) == (50, "59", 1)


async def test_of_many_troubled_keys_some_are_shown() -> None:
    """The details stay short, however many keys are open; those that are well are left out."""
    app, hosts = live(), keyed(lambda: circuit_breaker(consecutive=1), key=lambda host: host, name="hosts")
    guarded = hosts(_raises)
    for number in range(60):
        with pytest.raises(OSError, match="host"):
            guarded(f"host {number}")
    assert hosts["a healthy one"].state == "closed"
    _, known = await ids(app)
    keys = told(await request(app, path=f"/policy?id={known['hosts']}"))["keys"]
    assert [key["state"] for key in keys] == ["open"] * 50


async def test_a_name_that_cannot_be_encoded_hides_no_policy() -> None:
    """A lone surrogate, in the name of a function or what a policy is called after it, is shown as a question mark."""

    def call() -> None:
        pass

    call.__module__, call.__qualname__ = "m", "lone \udc80"
    guard, app = circuit_breaker(), live()
    guard(call)
    assert "m.lone ?" in (await ids(app))[1]


async def test_what_takes_long_to_read_is_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot and the details of a policy of many keys hold up nobody's event loop, and one thread at most."""
    readers: set[int] = set()
    for where, name in ((_app, "details_of"), (Sampler, "snapshot")):
        read = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *args, read=read: readers.add(threading.get_ident()) or read(*args))
    bulkhead(1, name="pool")
    app = live()
    _, known = await ids(app)
    assert (await request(app, path=f"/policy?id={known['pool']}")).status == 200
    assert readers
    assert threading.get_ident() not in readers


async def test_operations_take_the_token() -> None:
    """Force open, close, disable, reset, reconfigure: done, logged, and in the events."""
    policy, app = circuit_breaker("payments"), live(token=TOKEN)
    boot, known = await ids(app)
    base = {"boot": boot, "id": known["payments"]}
    for name, state in [
        ("force_open", "forced_open"),
        ("force_closed", "forced_closed"),
        ("disable", "disabled"),
        ("reset", "closed"),
    ]:
        answer = await operate(app, {**base, "do": name}, sec_fetch_site="same-origin", origin="http://elsewhere")
        assert (answer.status, told(answer)["state"], policy.state) == (200, state, state)
    answer = await operate(app, {**base, "do": "reconfigure", "options": {"open_for": 1.5, "slow_call": None}})
    assert (answer.status, policy.config.open_for) == (200, 1.5)
    events = told(await request(app, path="/snapshot"))["events"]
    done = [(event["do"], event["options"]) for event in events if event["what"] == "operation"]
    assert done[0] == ("force_open", "")
    assert done[-1] == ("reconfigure", "open_for=1.5, slow_call=None")


async def test_operations_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who did what, from where, is a line in the log."""
    circuit_breaker("payments")
    app = live(token=TOKEN)
    boot, known = await ids(app)
    await operate(app, {"boot": boot, "id": known["payments"], "do": "force_open"})
    assert "circuit_breaker 'payments': force_open() by an operator at unknown" in caplog.text


async def test_without_a_token_the_page_is_read_only() -> None:
    """No token configured, no operations: not even with an empty one."""
    circuit_breaker("payments")
    app = live()
    boot, known = await ids(app)
    for token in (TOKEN, "", None):
        answer = await operate(app, {"boot": boot, "id": known["payments"], "do": "force_open"}, token=token)
        assert answer.status == 403
    assert registry.get("payments")._state() == "closed"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": f"Bearer {READ}"}, 401),
        ({"authorization": "Bearer \xff\xfe"}, 401),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_length": "8193"}, 413),
        ({"content_length": "-1"}, 413),
        ({"content_length": "99999999999999999999"}, 413),
        ({"origin": "http://here"}, 200),
        ({"content_type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_operations_reject_whoever_should_not(headers: dict[str, str], status: int) -> None:
    """Unauthenticated, cross-site, of another type, too large: rejected before the body is read; nothing happens."""
    policy, app = circuit_breaker("payments"), live(token=TOKEN, read_token=READ)
    boot, known = await ids(app)
    answer = await operate(app, {"boot": boot, "id": known["payments"], "do": "force_open"}, **headers)
    assert answer.status == status
    assert (policy.state == "forced_open") is (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if status != 200:
        assert TOKEN not in answer.body.decode()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"boot": "other"}, 409),
        ({"id": 99}, 404),
        ({"id": "1"}, 404),
        ({"do": "explode"}, 422),
        ({"do": "__init__"}, 422),
        ({"do": ["reset"]}, 422),
        ({"do": "resume"}, 422),
        ({"do": "reset", "options": {"open_for": 1}}, 400),
        ({"do": "reconfigure"}, 400),
        ({"do": "reconfigure", "options": {}}, 400),
        ({"do": "reconfigure", "options": {"open_for": -1}}, 422),
        ({"do": "reconfigure", "options": {"nothing": 1}}, 422),
        ({"do": "reconfigure", "options": {"on": "OSError"}}, 422),
        ({"do": "reconfigure", "options": {"open_for": {"a": 1}}}, 422),
        ({"more": 1}, 400),
    ],
)
async def test_what_makes_no_sense_is_rejected_with_a_reason(change: dict[str, Any], status: int) -> None:
    """Numbers of another process, unknown policies, operations it does not have, bad options: nothing happens."""
    policy, app = circuit_breaker("payments"), live(token=TOKEN)
    boot, known = await ids(app)
    answer = await operate(app, {"boot": boot, "id": known["payments"], "do": "force_open", **change})
    assert (answer.status, policy.state, policy.config.open_for) == (status, "closed", 0.2)
    assert told(answer)["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[" * 8000, 400), (b"[]", 400), (b'"' + b"x" * 9000, 413), (b"", 400)],
)
async def test_bodies_that_are_no_operation_are_rejected(body: bytes, status: int) -> None:
    """Broken, deep, wrong, or longer than it said."""
    assert (await operate(live(token=TOKEN), body)).status == status


async def test_a_request_that_breaks_off_is_no_operation() -> None:
    """A body that never ends ends with its client."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/operate", "headers": headers}
    await live(token=TOKEN)(scope, receive, send)
    assert sent[0]["status"] == 400


async def test_looking_takes_the_read_token_where_there_is_one() -> None:
    """The files are no secret; what they show is. The token for operations will do as well."""
    circuit_breaker("payments")
    app = live(token=TOKEN, read_token=READ)
    assert (await request(app, path="/")).status == 200
    for path in ("/stream", "/snapshot", "/policy?id=1"):
        assert (await request(app, path=path)).status == 401
    for token in (TOKEN, READ):
        assert (await request(app, path="/snapshot", headers={"authorization": f"bearer {token}"})).status == 200


@pytest.mark.parametrize("token", [f"{TOKEN}\n", " " * 20, "geheim-über-alles-und-mehr", "a half \udc80" * 3])
def test_a_token_that_nobody_could_send_is_rejected(token: str) -> None:
    """A header carries printable ASCII, and no blanks at its ends: what else is a page that nobody can operate."""
    for options in ({"token": token}, {"read_token": token}):
        with pytest.raises(ValueError, match="token must be printable ASCII without blanks at its ends"):
            live(**options)
    with pytest.raises(ValueError, match="the read token must be printable"):
        Remote("http://127.0.0.1:9/", token)


async def test_tokens_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in the code is a token in the repository."""
    monkeypatch.setenv("RESILIO_LIVE_TOKEN", TOKEN)
    monkeypatch.setenv("RESILIO_LIVE_READ_TOKEN", READ)
    app = live()
    assert (await request(app, path="/snapshot")).status == 401
    boot, _ = await ids(app)
    assert (await operate(app, {"boot": boot, "id": 7, "do": "reset"})).status == 404


async def test_other_names_of_the_server_are_rejected_where_it_knows_its_own() -> None:
    """A page elsewhere whose name is made to mean this machine sees nothing."""
    app = live(hosts=["Shop.internal"])
    for host, status in [
        ("shop.internal:80", 200),
        ("127.8.0.1", 200),
        ("page.localhost", 200),
        ("notlocalhost", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:80", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8", 200),
        ("[::1]", 200),
        ("evil.example:80", 421),
        ("", 421),
    ]:
        assert (await request(app, path="/snapshot", headers={"host": host})).status == status


def test_short_tokens_and_quick_readings_are_rejected() -> None:
    """What can be guessed is no token; what reads all the time is no sampler."""
    with pytest.raises(ValueError, match="token must have at least 16 characters, not 5"):
        live(token="short")
    with pytest.raises(ValueError, match="read_token must have"):
        live(read_token="short")
    with pytest.raises(ValueError, match="interval must be at least"):
        live(interval=0.01)


async def test_repeated_headers_are_joined() -> None:
    """Two tokens are none."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    pair = (b"Authorization", f"Bearer {READ}".encode())
    scope = {"type": "http", "method": "GET", "path": "/snapshot", "headers": [pair, pair]}
    await live(read_token=READ)(scope, None, send)
    assert sent[0]["status"] == 401


def test_an_answer_of_a_rejection_says_why() -> None:
    """Errors are JSON, with the reason in words."""
    answer = Answer.of(Rejected(418, "no tea", [(b"x", b"y")]))
    assert (answer.status, json.loads(answer.body), answer.headers) == (418, {"error": "no tea"}, ((b"x", b"y"),))


@pytest.mark.parametrize(
    ("modules", "handler", "stopping"),
    [
        ({"uvicorn": object()}, {"should_exit": True}, True),
        ({"uvicorn": object()}, {"should_exit": False}, False),
        ({"uvicorn": object()}, {"alive": False}, True),
        ({"uvicorn": object()}, {"alive": True}, False),
        ({"uvicorn": object()}, None, False),
        ({"uvicorn": None}, {"should_exit": True}, True),
        ({}, {"should_exit": True}, False),
    ],
)
def test_a_stopping_server_is_known_by_its_signal_handler(
    modules: dict[str, Any], handler: dict[str, bool] | None, stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn, or gunicorn around it; nobody else is asked."""
    server = type("Server", (), {"handle_exit": lambda self: None, **(handler or {})})()
    monkeypatch.delitem(sys.modules, "uvicorn", raising=False)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = server.handle_exit if handler is not None else signal.SIG_DFL
    monkeypatch.setattr(signal, "getsignal", lambda _: found)
    assert _app._stopping() is stopping


@pytest.mark.real(1.5)
async def test_a_silent_stream_shows_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds without news a comment is sent."""
    monkeypatch.setattr(_app, "_HEARTBEAT", 1)
    circuit_breaker("payments")
    answer = await request(live(interval=0.1), path="/stream", stop=lambda body: body.endswith(b"\n\n:\n\n"))
    assert b"event: snapshot" in answer.body


async def test_a_page_that_was_stopped_ends_its_streams() -> None:
    """What waits for answers to end need not wait."""
    app = live(interval=0.1)
    app.stop()
    answer = await request(app, path="/stream")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("query", "status"), [("?id=1", 502), ("?id=\xff", 400), ("?id=1 2", 400), ("?id=1\r\nx: y", 400), ("", 502)]
)
async def test_the_page_of_a_process_that_does_not_answer_says_so(query: str, status: int) -> None:
    """Neither its silence nor a strange query is an error of this page."""
    source = Remote("http://127.0.0.1:1/")
    source.get = lambda page: (_ for _ in ()).throw(http.client.BadStatusLine("x"))  # type: ignore[method-assign]
    scope_query = query[1:].encode("latin-1")
    app = RemoteLive(source)
    answer = await request(app, path="/policy", query_string=scope_query)
    assert answer.status == status
    source.get = lambda page: (503, b"")  # type: ignore[method-assign]
    assert (await request(app, path="/snapshot")).status == 502
    assert (await operate(app, {})).status == 403
