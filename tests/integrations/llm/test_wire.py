"""What is read off the wire, without a network: events, headers, errors, usage, estimates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resilio import CallTimeoutError, CircuitOpenError, Rate, bulkhead, keyed, pipeline, rate_limit
from resilio.integrations.llm import ModelCall, TokenCost, meaning_of, partial_of, refusal_of, token_rate, trail_of
from resilio.integrations.llm._call import OneShotCall, call_of
from resilio.integrations.llm._dialects import ANTHROPIC, OPENAI, Dialect, says_why_it_ends
from resilio.integrations.llm._estimate import MOST_MODELS, UNKNOWN_OUTPUT, Estimates
from resilio.integrations.llm._exchange import _Parsed
from resilio.integrations.llm._headers import anthropic_left, duration, openai_left
from resilio.integrations.llm._limits import limits_for, observe, settle
from resilio.integrations.llm._reader import Reader
from resilio.integrations.llm._sse import Event, EventReader, parsed
from resilio.testing import disabled

BODY = (
    b': hello\n\nevent: a\ndata: {"x": 1}\n\n'
    b"data: one\ndata: two\r\n\r\n"
    b"data:{broken\r\revent: empty\n\n"
    b'data: ["no object"]\n\n'
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_however_bytes_are_cut(size: int) -> None:
    """The events do not depend on where chunks end; comments are none."""
    reader, events = EventReader(), []
    for start in range(0, len(BODY), size):
        events += reader.feed(BODY[start : start + size])
    assert events == [
        Event("a", '{"x": 1}', {"x": 1}),
        Event("", "one\ntwo", {}),
        Event("", "{broken", {}),
        Event("empty", "", {}),
        Event("", '["no object"]', {}),
    ]
    assert reader.end() == []


def test_an_event_without_its_blank_line_is_one_at_the_end() -> None:
    """Many servers leave it out before they close."""
    reader = EventReader()
    assert reader.feed(b"data: [DONE]\n") == []
    assert reader.end() == [Event("", "[DONE]", {})]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("17ms", 0.017),
        ("1s", 1.0),
        ("2m59.56s", 179.56),
        ("2", 2.0),
        ("0.25", 0.25),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1d", None),
        ("inf", None),
        ("nan", None),
        ("99999h", None),
        ("9" * 400, None),
        ("\u0661s", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    """Go's durations and plain seconds; nonsense, and what is longer than a day, is nothing."""
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_limits_in_headers_of_openai() -> None:
    """What makes sense is taken, unit by unit."""
    headers = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "-5",
        "x-ratelimit-reset-tokens": "never",
    }
    assert openai_left(headers) == {"requests": (59.0, 1.0)}


def test_limits_in_headers_of_anthropic() -> None:
    """Times are measured from the server's own date, and are nothing without one."""
    headers = {
        "date": "Tue, 14 Nov 2023 22:13:20 GMT",
        "anthropic-ratelimit-input-tokens-remaining": "1000",
        "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
        "anthropic-ratelimit-output-tokens-reset": "2023-11-14T22:13:00Z",
        "anthropic-ratelimit-requests-reset": "tomorrow",
    }
    assert anthropic_left(headers) == {"input_tokens": (1000.0, 30.0), "output_tokens": (None, 0.0)}
    assert anthropic_left({"anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z"}) == {}


class SdkError(Exception):
    def __init__(self, **fields: Any) -> None:
        super().__init__()
        vars(self).update(fields)


class APITimeoutError(Exception):
    pass


class PoolTimeout(Exception):
    pass


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (SdkError(status_code=429), "rate"),
        (SdkError(status_code=429, code="insufficient_quota"), "quota"),
        (SdkError(status_code=429, body={"type": "error", "error": {"type": "billing_error"}}), "quota"),
        (SdkError(status_code=403, details={"error_code": "organization_on_hold"}), "quota"),
        (SdkError(status_code=402), "quota"),
        (SdkError(status_code=200, type="overloaded_error"), "overloaded"),
        (SdkError(status_code=503), "overloaded"),
        (SdkError(status_code=502), "failed"),
        (SdkError(status_code=404, code="model_not_found"), "terminal"),
        (SdkError(), "failed"),
        (CircuitOpenError("circuit_breaker"), "refused"),
        (CallTimeoutError(), "timeout"),
        (APITimeoutError(), "timeout"),
        (caused(APITimeoutError(), PoolTimeout()), "local"),
        (PoolTimeout(), "local"),
    ],
    ids=repr,
)
def test_what_errors_mean(error: Exception, meaning: str) -> None:
    """Codes before statuses, and no prose."""
    assert meaning_of(error) == meaning


def test_errors_of_others_say_nothing() -> None:
    """An exception that no guarded call has raised has neither refusal, nor trail, nor part."""
    error = caused(ValueError(), caused(KeyError(), OSError()))
    assert refusal_of(error) is None
    assert trail_of(error) is None
    assert not partial_of(error)


@pytest.mark.parametrize(
    ("dialect", "error", "status"),
    [
        (OPENAI, {"code": "rate_limit_exceeded"}, 429),
        (OPENAI, {"type": "insufficient_quota"}, 429),
        (OPENAI, {"code": "slow_down"}, 503),
        (ANTHROPIC, {"type": "overloaded_error"}, 529),
        (ANTHROPIC, {"type": "api_error"}, 500),
        (ANTHROPIC, {"type": "invalid_request_error"}, 400),
        (OPENAI, {"message": "?"}, 500),
    ],
)
def test_statuses_of_errors_inside_of_a_200(dialect: Dialect, error: dict[str, str], status: int) -> None:
    """The status that it should have had."""
    assert dialect.status_of(error) == status


@pytest.mark.parametrize(
    ("dialect", "body", "usage"),
    [
        (OPENAI, {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, {"input_tokens": 3, "output_tokens": 4}),
        (OPENAI, {"usage": {"prompt_tokens": 3, "total_tokens": 3}}, {"input_tokens": 3, "output_tokens": 0}),
        (
            OPENAI,
            {"response": {"usage": {"input_tokens": 1, "output_tokens": 2}}},
            {"input_tokens": 1, "output_tokens": 2},
        ),
        (OPENAI, {"usage": None}, {}),
        (OPENAI, {"usage": {"prompt_tokens": "three", "completion_tokens": True}}, {"output_tokens": 0}),
        (ANTHROPIC, {"usage": {"input_tokens": 3, "cache_creation_input_tokens": 5}}, {"input_tokens": 8}),
        (ANTHROPIC, {"usage": {"output_tokens": -1}}, {}),
        (
            ANTHROPIC,
            {"message": {"usage": {"input_tokens": 2, "output_tokens": 1}}},
            {"input_tokens": 2, "output_tokens": 1},
        ),
    ],
)
def test_usage(dialect: Dialect, body: dict[str, Any], usage: dict[str, float]) -> None:
    """Whatever form it has; what is no number of tokens is not there."""
    assert dialect.usage(body) == usage


def read(dialect: Dialect, *chunks: bytes) -> tuple[Reader, list[bytes]]:
    reader, given = Reader(dialect, events=True), []
    for chunk in chunks:
        reader.feed(chunk)
        if reader.moved:
            given.append(reader.take())
    return reader, given


def test_what_is_not_visible_is_held_back() -> None:
    """The first piece has all that came before it; later ones only wait for something that is no ping."""
    chunks = [
        b'data: {"type": "response.created"}\n\n',
        b": ping\n\n",
        b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n',
        b'data: {"type": "keepalive"}\n\n',
        b'data: {"type": "response.output_text.done"}\n\n',
        b'data: {"type": "response.completed", "response": {}}\n\n',
    ]
    reader, given = read(OPENAI, *chunks)
    assert given == [b"".join(chunks[:3]), b"".join(chunks[3:5]), chunks[5]]
    assert reader.complete
    assert not reader.cut


@pytest.mark.parametrize(
    ("dialect", "event", "error"),
    [
        (
            OPENAI,
            Event("", "", {"type": "error", "code": "server_error"}),
            ({"type": "error", "code": "server_error"}, False),
        ),
        (OPENAI, Event("", "", {"error": {"code": "x"}}), ({"code": "x"}, True)),
        (OPENAI, Event("", "", {"type": "response.failed", "response": None}), ({}, False)),
        (OPENAI, Event("", "", {"type": "response.created"}), None),
        (ANTHROPIC, Event("error", "gone", {}), ({}, True)),
        (ANTHROPIC, Event("", "", {"type": "error", "error": {"type": "x"}}), ({"type": "x"}, False)),
        (ANTHROPIC, Event("ping", "", {}), None),
    ],
)
def test_errors_in_events(dialect: Dialect, event: Event, error: Any) -> None:
    """And whether the SDK raises them by itself."""
    assert dialect.error_in(event) == error


def test_a_chat_may_end_with_its_reason_alone() -> None:
    """Some servers send no [DONE]: a finish_reason says as well that the answer is whole."""
    delta = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    last = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    assert read(OPENAI, delta)[0].cut
    assert not read(OPENAI, delta, last)[0].cut
    assert read(OPENAI, b'data: {"choices": [{"text": "a"}]}\n\n')[1]
    assert read(OPENAI, b'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n')[1]
    assert not read(OPENAI, b'data: {"choices": []}\n\n')[1]


CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[%s],"usage":%s}'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",%s}}'


@pytest.mark.parametrize(
    ("dialect", "block", "only_more"),
    [
        (OPENAI, CHUNK % (b'{"delta":{"content":"a"},"finish_reason":null}', b"null"), True),
        (OPENAI, CHUNK % (rb'{"delta":{"content":"\"error\": \"usage\": 1"}}', b"null"), True),
        (OPENAI, CHUNK % (b'{"delta":{"content":"a"},"finish_reason": "stop"}', b"null"), False),
        (OPENAI, CHUNK % (b'{"delta":{"content":"a"}}', b'{"prompt_tokens":1}'), False),
        (OPENAI, CHUNK % (b'{"delta":{"content":"a"}}', b'null,"error":{"code":"slow_down"}'), False),
        (OPENAI, b'data: {"type":"keepalive"}', False),
        (OPENAI, b"data: [DONE]", False),
        (OPENAI, b": ping", False),
        (OPENAI, b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}', True),
        (OPENAI, b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{}}}', False),
        (OPENAI, b'event: response.x.delta\ndata: {"type":"response.failed","response":{"error":{}}}', False),
        (OPENAI, b'event: response.x.delta\ndata: {"type":"response.x.delta"\ndata: ,"error":{}}', False),
        (ANTHROPIC, DELTA % b'"text":"a"', True),
        (ANTHROPIC, DELTA % rb'"text":"{\"error\": 1}"', True),
        (ANTHROPIC, DELTA % b'"text":"a"},"error":{', False),
        (ANTHROPIC, b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":3}}', False),
        (ANTHROPIC, b'event: error\ndata: {"type":"content_block_delta"}', False),
        (ANTHROPIC, b'event: message_stop\ndata: {"type":"message_stop"}', False),
    ],
)
def test_events_that_only_say_more_are_told_by_their_bytes(dialect: Dialect, block: bytes, only_more: bool) -> None:
    """They are not parsed; nothing that would have been learnt from one that was parsed is lost."""
    assert dialect.only_says_more(block) is only_more
    event = parsed(block)
    if only_more:
        assert event is not None
        assert not dialect.is_ping(event)
        assert dialect.error_in(event) is None
        assert not dialect.usage(event.data)
        assert not dialect.ends(event)
        assert not says_why_it_ends(event)


def test_what_was_parsed_is_given_once() -> None:
    """The SDK may change what it gets, so who asks again gets a new one."""
    parse = _Parsed({"a": [1]}, b'{"a": [1]}')
    parse()["a"].append(2)
    assert parse() == parse(parse_int=int) == {"a": [1]}
    assert _Parsed({}, b"[1]")() == [1]
    with pytest.raises(ValueError, match="Expecting"):
        _Parsed({}, b"{broken")()


def test_a_dialect_says_what_it_must_say() -> None:
    """The base has no wire format of its own."""
    bare, event = Dialect(), Event("", "", {})
    for name in ("error_in", "is_ping", "is_visible", "begins", "ends"):
        with pytest.raises(NotImplementedError):
            getattr(bare, name)(event)
    for name in ("left", "usage"):
        with pytest.raises(NotImplementedError):
            getattr(bare, name)({})
    with pytest.raises(NotImplementedError):
        bare.only_says_more(b"")


def test_estimates_follow_what_calls_cost() -> None:
    """The first answer replaces what was assumed, later ones move it; nothing exceeds what the request allows."""
    estimates = Estimates()
    assert estimates.of("m", 400, None) == {"input_tokens": 100.0, "output_tokens": UNKNOWN_OUTPUT, "tokens": 356.0}
    assert estimates.of("m", 400, 50)["tokens"] == 150.0
    estimates.learn("m", 400, {"input_tokens": 200, "output_tokens": 1000})
    assert estimates.of("m", 100, None) == {"input_tokens": 50.0, "output_tokens": 1000.0, "tokens": 1050.0}
    estimates.learn("m", 0, {"input_tokens": 9, "output_tokens": 0})
    assert estimates.of("m", 100, None) == {"input_tokens": 50.0, "output_tokens": 800.0, "tokens": 850.0}
    estimates.learn("m", 10, {})
    assert estimates.of("other", 0, None)["output_tokens"] == UNKNOWN_OUTPUT


def test_estimates_are_bounded() -> None:
    """Models without end share one estimate, once there is no room for more names."""
    estimates = Estimates()
    for number in range(MOST_MODELS + 10):
        estimates.learn(f"model-{number}", 10, {"output_tokens": number})
    assert len(estimates._models) == MOST_MODELS + 1
    assert estimates.of("another", 0, None) == estimates.of("one more", 0, None)


def request(content: bytes | None, method: str = "POST", kind: str = "application/json", path: str = "/v1/x") -> Any:
    url = SimpleNamespace(path=path, host="host")
    made = SimpleNamespace(method=method, headers={"content-type": kind}, url=url)
    if content is not None:
        made.content = content
    return made


@pytest.mark.parametrize(
    ("given", "model", "whole", "streamed", "most"),
    [
        (request(b'{"model": "m", "max_tokens": 9}', path="/v1/messages"), "m", True, False, 9),
        (request(b'{"model": "m", "stream": true}', path="/v1/messages"), "m", False, True, None),
        (request(b'{"model": 3}', path="/v1/audio/speech"), None, False, False, None),
        (request(b"{broken"), None, False, False, None),
        (request(b"[]"), None, False, False, None),
        (request(b"", method="GET"), None, False, False, None),
        (request(b"--x", kind="multipart/form-data"), None, False, False, None),
    ],
)
def test_what_a_request_says(given: Any, model: str | None, whole: bool, streamed: bool, most: int | None) -> None:
    """Only the JSON of a POST is looked at."""
    call = call_of("openai", given, Estimates(), None)
    assert (call.model, call.whole, call.streamed, call.max_tokens) == (model, whole, streamed, most)
    assert bool(call.estimate) == (given.content.startswith(b'{"'))


def test_a_body_that_is_a_stream_is_for_one_attempt() -> None:
    """An upload is not tried again: retries and hedges see that its argument is used up, as an iterator is."""
    call = call_of("openai", request(None), Estimates(), None)
    assert isinstance(call, OneShotCall)
    with pytest.raises(StopIteration):
        next(call)


def test_a_token_rate_holds_a_whole_period() -> None:
    """As providers count; what costs more than that costs just that, so that it passes when all is free."""
    assert token_rate("600/min") == Rate("600/min", unit="tokens", cost=TokenCost("tokens", 600.0), burst=600.0)
    assert token_rate("600/min", unit="input_tokens", burst=5).burst == 5
    cost = TokenCost("tokens", 600.0)
    assert cost(ModelCall("openai", "h", "/", estimate={"tokens": 1e6})) == 600.0
    assert cost("something else") == 0.0
    with pytest.raises(ValueError, match="unit"):
        token_rate("1/s", unit="words")
    with pytest.raises(ValueError, match="burst"):
        token_rate("1/s", burst=0)


def a_call(**estimate: float) -> ModelCall:
    return ModelCall("openai", "h", "/", model="m", estimate=estimate)


def test_limits_are_found_wherever_they_stand() -> None:
    """In pipelines, and for each key; a key that cannot be made stands for the shared policy."""
    limit, each = rate_limit("1/s"), keyed(lambda: rate_limit("2/s"), key=lambda call: call.model)
    by_name = keyed(lambda: rate_limit("3/s"), key="call")
    broken = keyed(lambda: rate_limit("4/s"), key=lambda call: call.nothing)
    call = a_call()
    assert list(limits_for(pipeline(bulkhead(1), limit), call)) == [limit]
    assert list(limits_for(each, call)) == [each["m"]]
    assert list(limits_for(by_name, call)) == [by_name[call]]
    assert list(limits_for(broken, call)) == [broken.overflow]


def test_only_reservations_are_settled() -> None:
    """A rate of one's own cost is left alone; tests that switch policies off reserve nothing, and settle nothing."""
    limit = rate_limit(token_rate("1/h", burst=100), Rate("1/h", unit="output_tokens", cost=3, burst=50))
    call, usage = a_call(tokens=10.0), {"input_tokens": 10.0, "output_tokens": 30.0}
    settle(iter([limit]), call, usage)
    assert limit.available == {"tokens": pytest.approx(70, abs=0.1), "output_tokens": pytest.approx(50, abs=0.1)}
    settle(iter([limit]), call, {"output_tokens": 99.0})
    with disabled():
        settle(iter([limit]), call, usage)
    assert limit.available["tokens"] == pytest.approx(70, abs=0.1)


def test_what_is_left_is_observed_by_unit() -> None:
    """Units that a limit does not count, and counts that were not given, are passed over."""
    limit = rate_limit("60/min", burst=60)
    observe(iter([limit]), {"requests": (5.0, None), "tokens": (1.0, None)}, None)
    assert limit.available["requests"] == pytest.approx(5, abs=1)
    observe(iter([limit]), {"requests": (None, 3.0)}, 2.0)
    assert limit.peek() > 1.5
