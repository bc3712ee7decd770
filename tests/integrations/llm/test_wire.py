"""What is read off the wire, without a network: headers, errors, usage, estimates; events are in test_reader.py."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from resilio import CallTimeoutError, CircuitOpenError, Rate, bulkhead, keyed, pipeline, rate_limit, retry
from resilio.integrations.llm import ModelCall, TokenCost, meaning_of, partial_of, rejection_of, token_rate, trail_of
from resilio.integrations.llm._call import OneShotCall, call_of
from resilio.integrations.llm._dialects import ANTHROPIC, OPENAI, Dialect
from resilio.integrations.llm._estimate import MOST_MODELS, UNKNOWN_OUTPUT, Estimates
from resilio.integrations.llm._headers import left_of
from resilio.integrations.llm._limits import limits_for, observe, settle
from resilio.testing import disabled


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
    headers = {} if text is None else {"x-ratelimit-reset-requests": text}
    expected = {} if seconds is None else {"requests": (None, pytest.approx(seconds))}
    assert left_of(headers, "openai") == expected


def test_limits_in_headers_of_openai() -> None:
    """What makes sense is taken, unit by unit."""
    headers = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "-5",
        "x-ratelimit-reset-tokens": "never",
    }
    assert left_of(headers, "openai") == {"requests": (59.0, 1.0)}


def test_limits_in_headers_of_anthropic() -> None:
    """Times are measured from the server's own date, and are nothing without one."""
    headers = {
        "date": "Tue, 14 Nov 2023 22:13:20 GMT",
        "anthropic-ratelimit-input-tokens-remaining": "1000",
        "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
        "anthropic-ratelimit-output-tokens-reset": "2023-11-14T22:13:00Z",
        "anthropic-ratelimit-requests-reset": "tomorrow",
    }
    assert left_of(headers, "anthropic") == {"input_tokens": (1000.0, 30.0), "output_tokens": (None, 0.0)}
    assert left_of({"anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z"}, "anthropic") == {}


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
        (CircuitOpenError("circuit_breaker"), "rejected"),
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
    """An exception that no guarded call has raised has neither rejection, nor trail, nor part."""
    error = caused(ValueError(), caused(KeyError(), OSError()))
    assert rejection_of(error) is None
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
    ("dialect", "told", "usage"),
    [
        (OPENAI, {"prompt_tokens": 3, "completion_tokens": 4}, {"input_tokens": 3, "output_tokens": 4}),
        (OPENAI, {"prompt_tokens": 3, "total_tokens": 3}, {"input_tokens": 3, "output_tokens": 0}),
        (OPENAI, {"input_tokens": 1, "output_tokens": 2.0}, {"input_tokens": 1, "output_tokens": 2}),
        (OPENAI, {"prompt_tokens": "three", "completion_tokens": True}, {}),
        (OPENAI, {"prompt_tokens": None, "completion_tokens": 10**9}, {}),
        (OPENAI, [], {}),
        (
            ANTHROPIC,
            {"input_tokens": 3, "cache_creation_input_tokens": 5},
            {"input_tokens": 8, "written_tokens": 5},
        ),
        (ANTHROPIC, {"output_tokens": -1}, {}),
        (ANTHROPIC, {"input_tokens": 0, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 1}),
    ],
)
def test_usage(dialect: Dialect, told: Any, usage: dict[str, float]) -> None:
    """Whatever form it has; what is no number of tokens is not there."""
    assert dialect.usage(json.dumps(told).encode()) == usage


@pytest.mark.parametrize(
    ("dialect", "told", "billed"),
    [
        (
            OPENAI,
            {"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 20}, "completion_tokens": 4},
            {"input": 10, "cached": 20, "output": 4},
        ),
        (
            OPENAI,
            {"input_tokens": 30, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 4},
            {"input": 0, "cached": 30, "output": 4},
        ),
        (OPENAI, {"prompt_tokens": 30, "total_tokens": 30}, {"input": 30, "cached": 0, "output": 0}),
        (
            ANTHROPIC,
            {
                "input_tokens": 3,
                "cache_creation_input_tokens": 5,
                "cache_read_input_tokens": 7,
                "output_tokens": 9,
            },
            {"input": 3, "written": 5, "cached": 7, "output": 9},
        ),
        (ANTHROPIC, {"input_tokens": 3}, None),
    ],
)
def test_what_is_billed(dialect: Dialect, told: Any, billed: dict[str, float] | None) -> None:
    """
    Each token is billed once, by its own price.

    OpenAI counts tokens from its cache in the input, Anthropic beside it: summed up alike, the same tokens would be
    paid twice, or not at all.
    """
    assert dialect.billed(dialect.usage(json.dumps(told).encode())) == billed


@pytest.mark.parametrize(
    ("dialect", "named", "data", "error"),
    [
        (
            OPENAI,
            False,
            {"type": "error", "code": "server_error"},
            ({"type": "error", "code": "server_error"}, False),
        ),
        (OPENAI, False, {"error": {"code": "x"}}, ({"code": "x"}, True)),
        (OPENAI, False, {"type": "response.failed", "response": None}, ({}, False)),
        (OPENAI, False, {"type": "response.created", "error": None}, None),
        (ANTHROPIC, True, {}, ({}, True)),
        (ANTHROPIC, False, {"type": "error", "error": {"type": "x"}}, ({"type": "x"}, False)),
        (ANTHROPIC, False, {"type": "ping"}, None),
    ],
)
def test_errors_in_events(dialect: Dialect, named: bool, data: dict[str, Any], error: Any) -> None:
    """And whether the SDK raises them by itself."""
    assert dialect.error_in(named, data) == error


def test_a_dialect_says_what_it_must_say() -> None:
    """The base has no wire format of its own."""
    with pytest.raises(NotImplementedError):
        Dialect().error_in(False, {})
    with pytest.raises(NotImplementedError):
        Dialect().usage(b"{}")


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
        (request(b'{"model": "m", "max_tokens": 1' + b"0" * 400 + b"}"), "m", False, False, 10**400),
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
    assert bool(call.estimate) == (given.content.startswith(b"{"))


def test_a_body_that_is_a_stream_is_for_one_attempt() -> None:
    """An upload is not tried again: retries and hedges see that its argument is used up, as an iterator is."""
    call = call_of("openai", request(None), Estimates(), None)
    assert isinstance(call, OneShotCall)
    with pytest.raises(StopIteration):
        next(call)


@pytest.mark.parametrize("rule", [None, True])
def test_a_body_that_is_a_stream_is_sent_once_whatever_the_retry_says(rule: bool | None) -> None:
    """`replayable=True` is for arguments that can be passed again: the body of an upload is gone."""
    call, sent = OneShotCall("openai", "host", "/v1/files"), []

    def send(call: ModelCall) -> None:
        sent.append(call)
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError) as caught:
        retry(on=ConnectionError, attempts=3, replayable=rule).call(send, call)
    assert len(sent) == 1
    assert caught.value.resilio.stop_reason == "not_replayable"


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
