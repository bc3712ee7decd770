"""What comes from outside is never trusted: no header, event, body or file raises out of a call or a scrape."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oracles.asgi_client import request
from resilio import bulkhead, circuit_breaker, rate_limit, retry, standard
from resilio._native.sse import Reader, members, object_of
from resilio.integrations._shared import headers as _wire
from resilio.integrations.llm import _headers
from resilio.integrations.llm._dialects import ANTHROPIC, OPENAI, Dialect
from resilio.live import live
from resilio.live._feed import Remote, events_in
from resilio.metrics import multiprocess
from resilio.metrics._sheet import Sheet
from resilio.metrics.prometheus import MultiprocessCollector

TOKEN = "correct horse battery staple"
DEEP = b"[" * 100_000 + b"]" * 100_000
FIELDS = (
    "body", "choices", "code", "delta", "details", "error", "error_code", "finish_reason", "input_tokens", "message",
    "output_tokens", "prompt_tokens", "response", "text", "type", "usage",
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([10**400, "\ud800", "error", "rate_limit_error", "insufficient_quota"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
DATES = (
    "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 99999999999999999999 22:13:20 GMT",
    "Tue, 14 Nov 2023 22:13:20 +9999999999999", "2023-11-14T22:13:50Z",
)  # fmt: skip
NUMBERS = ("0", "5", "-1", "nan", "inf", "1e999", "5,nan", "1_0", "\u0661", "9" * 400, "")
VALUES = st.sampled_from(DATES + NUMBERS) | st.text(max_size=20)
dialects = pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=lambda one: one.provider)
TIMES = st.from_regex(r"[0-9]{0,70}(\.[0-9]{0,3})?[HMSmun]?")
often = settings(deadline=None, suppress_health_check=list(HealthCheck))


def an_event(name: str | None, data: Any) -> bytes:
    field = b"" if name is None else b"event: " + name.encode() + b"\n"
    return field + b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def read(dialect: Dialect, stream: bytes) -> Any:
    reader = Reader(dialect, events=True)
    reader.feed(stream)
    reader.end()
    if reader.error is not None:
        assert 400 <= dialect.status_of(reader.error[0]) <= 599
    return reader.error, reader.usage, reader.complete


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.real(1.5)
@dialects
@often
@given(st.lists(st.tuples(st.sampled_from([None, "error", "ping", "message_start"]), JSON | st.binary()), max_size=4))
def test_events_of_any_shape_are_read(dialect: Dialect, events: list[tuple[str | None, Any]]) -> None:
    """An event whose `choices` was a number raised TypeError out of the SDK: what an event is made of is foreign."""
    read(dialect, b"".join(an_event(name, data) for name, data in events))


@dialects
@pytest.mark.parametrize("choices", [5, True, "text", {"delta": {"content": "a"}}, [], [5, None, {"delta": 5}]])
def test_choices_that_are_no_list_show_nothing(dialect: Dialect, choices: Any) -> None:
    """`{"choices": 5}` in one event ended a good stream with TypeError."""
    assert not dialect.shows({"choices": choices})
    read(dialect, an_event(None, {"choices": choices}))


@dialects
@pytest.mark.parametrize("depth", [10, 900, 1_000, 100_000])
def test_events_of_any_depth_are_read(dialect: Dialect, depth: int) -> None:
    """An object within an object, as deep as it likes, never meets the interpreter's limit of recursion."""
    inner = b'{"body":' * depth + b"1" + b"}" * depth
    for member in (b"error", b"choices", b"usage", b"message"):
        read(dialect, b'data: {"type": "error", "' + member + b'": ' + inner + b"}\n\n")


@often
@given(st.binary() | JSON.map(lambda data: json.dumps(data).encode()))
def test_bodies_of_any_shape_are_read(body: bytes) -> None:
    """The body of an answer may be no JSON, or not what was expected."""
    members(body, b"error", b"type", b"usage")
    assert type(object_of(body)) is dict


@often
@given(VALUES, VALUES, VALUES)
@example("Tue, 14 Nov 99999999999999999999 22:13:20 GMT", "5", "2023-11-14T22:13:50Z")
@example("Tue, 14 Nov 2023 22:13:20 +9999999999999", "5", "2023-11-14T22:13:50Z")
def test_limits_in_headers_of_any_content_are_read(date: str, remaining: str, reset: str) -> None:
    """A `date` whose year has twenty digits raised OverflowError: a good answer became an APIConnectionError."""
    headers = {"date": date}
    for unit in ("requests", "tokens", "input-tokens", "output-tokens"):
        headers |= {f"anthropic-ratelimit-{unit}-remaining": remaining, f"anthropic-ratelimit-{unit}-reset": reset}
        headers |= {f"x-ratelimit-remaining-{unit}": remaining, f"x-ratelimit-reset-{unit}": reset}
    for left in (_headers.left_of(headers, "anthropic"), _headers.left_of(headers, "openai")):
        assert all(number is None or 0 <= number < math.inf for pair in left.values() for number in pair)


@pytest.mark.parametrize("text", ["1_0", "\u0661\u0662", "nan", "inf", "+5", "0x5"])
def test_only_plain_decimals_are_numbers_of_tokens(text: str) -> None:
    """`float` takes "1_0" for ten, and digits of every script: a provider writes neither."""
    assert _headers.left_of({"x-ratelimit-remaining-tokens": text}, "openai") == {}


# ---- the wire --------------------------------------------------------------------------------------------------------


@often
@given(
    VALUES | st.binary() | st.lists(VALUES, max_size=2) | st.none() | TIMES,
    st.sampled_from(["x-request-timeout", "x-timeout-ms", "grpc-timeout"]),
)
def test_headers_of_requests_may_say_anything(value: Any, name: str) -> None:
    """Deadlines, priorities and tenants come from callers: what makes no sense is as if it were not there."""
    seconds = _wire.read_deadline(value, name)
    assert seconds is None or 0 <= seconds < math.inf
    _wire.read_priority(value)
    tenant = _wire.read_tenant(value)
    assert tenant is None or tenant.isascii()


# ---- files of metrics ------------------------------------------------------------------------------------------------


def put_directory(path: Path) -> None:
    path.mkdir()


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def put_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this process has left its numbers."""
    worker = multiprocess.start(tmp_path)
    circuit_breaker("kept").call(int)
    yield tmp_path
    worker.stop()


def scraped(directory: Path) -> str:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    MultiprocessCollector(registry, directory=directory)
    return generate_latest(registry).decode()


def assert_still_counted(directory: Path) -> None:
    for _ in range(2):  # folding, too, leaves things as they are
        assert 'resilio_calls_total{kind="circuit_breaker",outcome="success",policy="kept"} 1.0' in scraped(directory)


@pytest.mark.parametrize("name", ["x.json", "x.lock", "x.json.7.new", "ended.json", "folding.lock"])
@pytest.mark.parametrize("put", [put_directory, put_pipe, put_dangling, put_loop])
def test_what_is_no_file_among_the_files_costs_itself_only(shared: Path, name: str, put: Any) -> None:
    """A directory named `x.json` left a scrape without a single number; a pipe would have blocked it for good."""
    (shared / name).unlink(missing_ok=True)
    put(shared / name)
    assert_still_counted(shared)


@pytest.mark.parametrize("name", ["x.json", "ended.json"])
@pytest.mark.parametrize(
    "data",
    [
        DEEP,
        b'{"counters":{"calls":[["a","b","success",1' + b"0" * 400 + b']]},"gauges":{},"durations":[]}',
        b'{"counters":{"calls":[["a","b","success",NaN]]},"gauges":{},"durations":[]}',
        b'{"counters":{"calls":[["a","\\ud800","success",1]]},"gauges":{},"durations":[]}',
        b'{"counters":{},"gauges":{},"durations":[["a","b",[1],[1,Infinity],1]]}',
        b'{"counters":{},"gauges":{},"durations":[["a","b",[' + b"9" * 400 + b"],[1,1],1]]}",
        b"[]",
        b"\xff",
    ],
    ids=["deep", "huge", "nan", "surrogate", "infinite", "bound", "list", "bytes"],
)
def test_what_another_program_has_written_costs_itself_only(shared: Path, name: str, data: bytes) -> None:
    """Deeply nested JSON raised RecursionError out of a scrape; so did numbers and labels that no page can show."""
    (shared / name).write_bytes(data)
    assert_still_counted(shared)


ROWS = st.lists(st.lists(LEAVES | st.lists(LEAVES, max_size=2), max_size=6), max_size=2)


@often
@given(
    st.fixed_dictionaries(
        {
            "counters": st.dictionaries(st.sampled_from(["calls", "rejected", "nothing"]), ROWS, max_size=2) | JSON,
            "gauges": st.dictionaries(st.sampled_from(["policies", "inflight"]), ROWS, max_size=2) | JSON,
            "durations": ROWS | JSON,
        }
    )
    | JSON
)
def test_sheets_of_any_shape_are_rejected_or_can_be_shown(data: Any) -> None:
    """A sheet that loads can be added up and shown."""
    try:
        sheet = Sheet.load(json.loads(json.dumps(data)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return
    total = Sheet()
    total.add(sheet)
    total.add_totals(sheet, -1)
    assert all(math.isfinite(float(number)) for number in (*sheet.counters.values(), *sheet.gauges.values()))
    str(list(sheet.counters)).encode()


# ---- the live page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(anyio_backend: str) -> Any:
    """A page with a token, and policies to operate."""
    del anyio_backend
    (
        circuit_breaker("payments"),
        bulkhead(3, name="slots"),
        rate_limit("5/s", name="rate"),
        retry(on=OSError, name="again"),
    )
    standard("all", on=OSError)
    return live(token=TOKEN)


@pytest.mark.anyio
async def test_operators_may_send_anything(page: Any) -> None:
    """What is sent to the page is done, or rejected with a status of 400 to 499; nothing raises into the server."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", "host": "here"}
    seen = json.loads((await request(page, path="/snapshot", headers=headers)).body)
    values: list[Any] = [None, True, -1, 10**400, 1e308, math.nan, "x", [], {}, [[]], "\ud800", "reset", 1]
    options = [
        "open_for",
        "max_concurrent",
        "failure_rate",
        "max_wait",
        "attempts",
        "enforce",
        "window",
        "\ud800",
        "on",
    ]
    asked = [DEEP, b"", b"\xff", *values, *({"boot": seen["boot"], "id": one, "do": "reset"} for one in values)]
    for policy in seen["policies"]:
        known = {"boot": seen["boot"], "id": policy["id"]}
        asked += [{**known, "do": one} for one in values]
        asked += [{**known, "do": "reconfigure", "options": {name: one}} for name in options for one in values]
    for one in asked:
        body = one if isinstance(one, bytes) else json.dumps(one).encode()
        answer = await request(page, "POST", "/operate", headers=headers, body=body)
        assert answer.status == 200 or 400 <= answer.status < 500, one


@pytest.mark.anyio
@pytest.mark.parametrize("query", [b"id=", b"id=" + b"9" * 400, b"id=\xd9\xa1", b"\xff", b"id=-1", b"id=1_0"])
async def test_queries_may_be_anything(page: Any, query: bytes) -> None:
    """A policy that does not exist is not found."""
    scope = {"headers": {"authorization": f"Bearer {TOKEN}", "host": "here", "last-event-id": query.decode("latin-1")}}
    answer = await request(page, path="/policy", query=query, **scope)
    assert answer.status == 404


@often
@given(
    st.lists(st.tuples(st.sampled_from(["snapshot", "delta", "other"]), JSON | st.binary() | st.just(DEEP)), max_size=3)
)
def test_a_page_that_is_watched_may_send_anything(events: list[tuple[str, Any]]) -> None:
    """The thread that follows another process ended for good at the first deeply nested event."""
    stream = b"".join(an_event(name, data) for name, data in events)
    for _, data in events_in(stream.splitlines(keepends=True)):
        json.dumps(data)


def test_the_thread_that_watches_goes_on_after_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading the other side raises, the next attempt is made."""
    remote, stop = Remote("http://here"), threading.Event()
    tried: list[int] = []

    def listen(_: Any) -> None:
        tried.append(1)
        if len(tried) == 2:
            stop.set()
        raise RecursionError("too deep")

    monkeypatch.setattr(remote, "_listen", listen)
    monkeypatch.setattr("resilio.live._feed._PAUSE", 0)
    remote._follow(stop)
    assert len(tried) == 2
