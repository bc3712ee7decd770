"""What `on` says in every policy: types, predicates, and presets by name, from code, TOML and the environment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resilio import (
    CircuitOpenError,
    adaptive_limit,
    circuit_breaker,
    configure,
    fallback,
    keyed,
    override,
    pipeline,
    presets,
    registry,
    retry,
    retrying,
    standard,
)
from resilio._failures.outcome import Outcome

MAKERS: dict[str, Any] = {
    "adaptive_limit": adaptive_limit,
    "circuit_breaker": circuit_breaker,
    "fallback": lambda **options: fallback(**{"default": None, **options}),
    "retry": lambda **options: retry(**{"backoff": 0.0, "budget": None, **options}),
    "retrying": lambda **options: retrying(**{"backoff": 0.0, **options}).policy,
}
Makers = pytest.mark.parametrize("kind", MAKERS)


class StatusError(Exception):
    """As a client's `raise_for_status` raises it."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.response = SimpleNamespace(status_code=status, headers=headers)


def outcome(policy: Any, error: Exception) -> Outcome:
    """What the policy's own rule says of an error."""
    return Outcome(policy._gate.judge_error(error))


# ---- one place for all -----------------------------------------------------------------------------------------------


@Makers
@pytest.mark.parametrize("name", ["http", "model", "database", "redis", "mcp"])
def test_every_policy_takes_a_preset_by_name(kind: str, name: str) -> None:
    """Only `standard` knew them: a breaker around a client took every exception for a failure, a 404 too."""
    preset = getattr(presets, name)
    assert MAKERS[kind](on=name).config.on is preset
    assert MAKERS[kind](on=preset).config.on is preset


@Makers
def test_a_misspelt_preset_is_rejected_with_the_one_that_is_meant(kind: str) -> None:
    """The message names the option, the value and the fix."""
    with pytest.raises(
        ValueError, match=r"^on must be one of 'database', 'http', .* not 'htp' \(did you mean 'http'\?\)"
    ):
        MAKERS[kind](on="htp")
    with pytest.raises(TypeError, match=r"^on must be .*a preset like 'http', not 5"):
        MAKERS[kind](on=5)
    with pytest.raises(TypeError, match=r"^ignore must be"):
        MAKERS[kind](on="http", ignore="http")


@Makers
def test_a_preset_comes_from_toml_and_the_environment(kind: str) -> None:
    """`on = "http"` in a file, `RESILIO__API__ON=http` around the process; a bad one changes nothing."""
    if kind == "retrying":
        pytest.skip("a block has no name")
    configure(registry.from_env(environ={"RESILIO__API__ON": "model"}))
    policy = MAKERS[kind](on=Exception, name="api")
    assert policy.config.on is presets.model
    configure({"api": {"on": "http"}})
    assert policy.config.on is presets.http
    with pytest.raises(ValueError, match=r"api.*did you mean 'http'"):
        configure({"api": {"on": "https"}})
    assert policy.config.on is presets.http
    assert override(policy, on="redis").config.on is presets.redis


def test_what_a_pipeline_explains_shows_the_preset_by_name() -> None:
    """A preset in a table is its name, and not the addresses of its functions."""
    text = str(pipeline(retry(on="http", idempotent=True), circuit_breaker(on="http")).explain())
    assert "on='http', idempotent=True" in text
    assert " at 0x" not in text
    own = presets.Preset(failing=(OSError,), momentary=(OSError,), unsent=())
    assert repr(own).startswith("<Preset of (<class 'OSError'>,)>")


def test_each_key_of_a_keyed_policy_may_have_a_preset() -> None:
    """The options are checked for the key that is made first, and are those of all."""
    hosts = keyed(lambda: circuit_breaker(on="http", consecutive=1), key=lambda host: host)

    @hosts
    def call(host: str) -> None:
        raise StatusError(404 if host == "a" else 500)

    for _ in range(3):
        with pytest.raises(StatusError):
            call("a")
    with pytest.raises(StatusError):
        call("b")
    with pytest.raises(CircuitOpenError):
        call("b")


# ---- what each policy hears of a preset ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, Outcome.SUCCESS),
        (425, Outcome.REFUSED),
        (429, Outcome.REFUSED),
        (408, Outcome.SUCCESS),
        (500, Outcome.FAILURE),
        (501, Outcome.FAILURE),
        (503, Outcome.FAILURE),
    ],
)
def test_a_breaker_hears_what_is_a_failure(status: int, expected: Outcome) -> None:
    """Of an exception with a status and of a returned response the same."""
    breaker = circuit_breaker(on="http")
    assert outcome(breaker, StatusError(status)) is expected
    assert Outcome(breaker._gate.judge_value(SimpleNamespace(status_code=status))) is expected


@pytest.mark.parametrize("attribute", ["status_code", "status"])
@pytest.mark.parametrize(
    ("status", "failing", "momentary", "drop"),
    [
        (200, False, False, False),
        (404, False, False, False),
        (429, False, True, True),
        (501, True, False, False),
        (503, True, True, True),
    ],
)
def test_an_answer_is_judged_by_its_status_under_either_name(
    attribute: str, status: int, failing: bool, momentary: bool, drop: bool
) -> None:
    """Answers of aiohttp and of asyncio's servers have a `status`, those of other clients a `status_code`."""
    answer = SimpleNamespace(**{attribute: status})
    assert bool(presets.http.failing_result(answer)) is failing
    assert bool(presets.http.momentary_result(answer)) is momentary
    assert bool(presets.http.unsent_result(answer)) is (status == 429)
    assert (presets.http.drops_result(answer) is Outcome.FAILURE) is drop
    breaker = circuit_breaker(on="http", consecutive=1)
    breaker.call(lambda: answer)
    assert breaker.state == ("open" if failing else "closed")


def test_a_rule_for_results_takes_the_place_of_what_the_preset_says_of_them() -> None:
    """`failed_if` beside a preset is the policy's own word on results; on errors the preset's stands."""
    breaker = circuit_breaker(on="http", failed_if=lambda answer: answer is None)
    assert breaker._gate.judge_value(SimpleNamespace(status_code=500)) is Outcome.SUCCESS
    assert breaker._gate.judge_value(None) is Outcome.FAILURE
    assert outcome(breaker, StatusError(500)) is Outcome.FAILURE


def test_what_is_ignored_is_taken_out_of_a_preset() -> None:
    """`ignore` goes before it, as it goes before types."""
    breaker = circuit_breaker(on="http", ignore=TimeoutError)
    assert outcome(breaker, TimeoutError()) is Outcome.IGNORED
    assert outcome(breaker, ConnectionError()) is Outcome.FAILURE


@pytest.mark.parametrize(("status", "attempts"), [(429, 3), (425, 3), (503, 1), (500, 1), (404, 1)])
def test_a_retry_around_a_function_repeats_only_what_was_not_done(status: int, attempts: int) -> None:
    """A function may send a payment: after a 503 it may have been made. 429 and no connection say that it was not."""
    assert _tries(retry(on="http", backoff=0.0, budget=None), status) == attempts


@pytest.mark.parametrize(("status", "attempts"), [(429, 3), (503, 3), (500, 3), (408, 3), (501, 1), (404, 1)])
def test_an_idempotent_one_repeats_what_may_be_over(status: int, attempts: int) -> None:
    """`idempotent=True` says of a function what a client knows of a method."""
    assert _tries(retry(on="http", idempotent=True, backoff=0.0, budget=None), status) == attempts


def _tries(policy: Any, status: int) -> int:
    calls = []

    @policy
    def call() -> None:
        calls.append(status)
        raise StatusError(status)

    with pytest.raises(StatusError):
        call()
    return len(calls)


def test_idempotent_is_for_presets_alone() -> None:
    """Types and predicates say all there is: an option that would do nothing is rejected."""
    with pytest.raises(ValueError, match=r"^idempotent must be left out where `on` is no preset.*, not True$"):
        retry(on=ConnectionError, idempotent=True)
    with pytest.raises(TypeError, match=r"^idempotent must be True or False"):
        retry(on="http", idempotent="yes")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (StatusError(503), True),
        (StatusError(429), True),
        (ConnectionError(), True),
        (CircuitOpenError("circuit_breaker"), True),
        (StatusError(400), False),
        (StatusError(401), False),
        (KeyError("a bug"), False),
    ],
)
def test_a_fallback_goes_on_from_what_another_place_may_not_meet(error: Exception, elsewhere: bool) -> None:
    """An open breaker inside is one of those; a bad request would be one there too, and a bug is not hidden."""
    policy = fallback(on="model", default="elsewhere")

    @policy
    def ask() -> str:
        raise error

    if elsewhere:
        assert ask() == "elsewhere"
    else:
        with pytest.raises(type(error)):
            ask()


def test_a_fallback_leaves_a_provider_whose_quota_is_used_up_for_good() -> None:
    """No retry helps there, and another provider does."""
    error = StatusError(429)
    error.code = "insufficient_quota"  # type: ignore[attr-defined]
    assert outcome(retry(on="model", idempotent=True), error) is Outcome.SUCCESS
    assert outcome(fallback(on="model", default=None), error) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StatusError(429), Outcome.REFUSED),
        (StatusError(503), Outcome.FAILURE),
        (StatusError(500), Outcome.IGNORED),
        (StatusError(404), Outcome.IGNORED),
        (TimeoutError(), Outcome.FAILURE),
        (CircuitOpenError("circuit_breaker"), Outcome.FAILURE),
        (ConnectionError(), Outcome.IGNORED),
    ],
)
def test_a_limit_that_learns_hears_what_a_drop_is(error: Exception, expected: Outcome) -> None:
    """Too much to do, out of time, rejected; all else says nothing of the load."""
    assert outcome(adaptive_limit(on="http"), error) is expected


def test_a_timeout_of_a_client_is_a_drop_too() -> None:
    """httpx's and requests' timeouts are no TimeoutError."""
    error = type("ReadTimeout", (type("TimeoutException", (Exception,), {}),), {})()
    assert outcome(adaptive_limit(on="http"), error) is Outcome.FAILURE


def test_a_standard_stack_is_made_of_the_same_presets() -> None:
    """One part can be changed by its own options: what may run twice, say."""
    stack = standard("of presets", on="http")
    parts = {part.kind: part for part in stack.policies}
    assert parts["retry"].config.on is parts["circuit_breaker"].config.on is presets.http
    changed = {part.kind: part for part in override(stack, retry={"idempotent": True}).policies}
    assert outcome(changed["retry"], StatusError(503)) is Outcome.FAILURE
    with pytest.raises(ValueError, match="did you mean 'http'"):
        standard("misspelt", on="htttp")  # type: ignore[arg-type]
