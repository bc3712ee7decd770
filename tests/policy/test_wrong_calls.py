"""What somebody meets who writes it as another library would have it: a message that says what to write."""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio import (
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    fallback,
    hedge,
    keyed,
    load_shed,
    override,
    pipeline,
    rate_limit,
    retry,
    spend_limit,
    standard,
    timeout,
)
from resilio._options import scope as scope_module


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: retry(on=OSError, max_attempts=3), r"retry: no option 'max_attempts' \(did you mean 'attempts'\?\)"),
        (lambda: retry(on=OSError, tries=3), r"'tries' \(did you mean 'attempts'\?\); there are: attempts, backoff"),
        (
            lambda: circuit_breaker(fail_max=5),
            r"'fail_max' \(did you mean 'consecutive'\?\); there are: closing_probes, consecutive",
        ),
        (lambda: circuit_breaker(recovery_timeout=30), r"did you mean 'open_for'"),
        (lambda: bulkhead(2, max_queue=5, max_wait=1), r"bulkhead: no option 'max_queue' \(did you mean 'max_queued'"),
        (lambda: standard("wrong", on="http", dedline=1), r"standard: no option 'dedline' \(did you mean 'deadline'"),
        (lambda: bulkhead(10, nothing_like_it=1), "no option 'nothing_like_it'; there are: enforce, max_concurrent"),
        (lambda: timeout("2"), "total must be a time like '30s', '500ms' or '2m' .*, not '2'"),
        (lambda: pipeline([bulkhead(2)]), r"policies given one by one, as \*policies, .* not \[<Bulkhead"),
        (lambda: load_shed(100), r"like load_shed\(max_concurrent=8\), not 100 by position"),
    ],
)
def test_a_wrong_option_is_answered_with_what_to_write(wrong: Callable[[], Any], message: str) -> None:
    """Names of other libraries, misspelt ones and wrong units meet the right ones, on every Python."""
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()


OF_OTHERS = [
    (circuit_breaker, "window", "sliding_window_size sliding_window_type sampling_duration"),
    (circuit_breaker, "min_calls", "minimum_number_of_calls minimum_throughput"),
    (circuit_breaker, "open_for", "wait_duration_in_open_state break_duration reset_timeout recovery_time_secs ttl"),
    (circuit_breaker, "probes", "permitted_number_of_calls_in_half_open_state"),
    (circuit_breaker, "failure_rate", "failure_ratio failure_rate_threshold"),
    (circuit_breaker, "consecutive", "fail_max failure_threshold"),
    (circuit_breaker, "on", "record_exceptions expected_exception should_handle"),
    (circuit_breaker, "ignore", "ignore_exceptions exclude"),
    (retry, "attempts", "max_retries max_retry_attempts max_attempts stop tries"),
    (retry, "backoff", "delay wait wait_gen wait_initial jitter interval_function max_delay"),
    (retry, "on", "retry_on retry_exceptions exceptions"),
    (retry, "failed_if", "retry_on_result retry_on_result_predicate"),
    (bulkhead, "max_concurrent", "max_concurrent_calls max_parallelization limit capacity"),
    (bulkhead, "max_wait", "max_wait_duration"),
    (timeout, "total", "seconds timeout timeout_duration"),
    (hedge, "after", "delay hedging_delay"),
    (hedge, "max_hedges", "max_hedged_attempts"),
    (fallback, "handler", "fallback_action"),
    (fallback, "default", "fallback_value"),
    (adaptive_limit, "start", "initial_limit limit"),
    (standard, "attempts", "max_retries"),
    (standard, "deadline", "max_time seconds"),
]


@pytest.mark.parametrize(("make", "ours", "theirs"), OF_OTHERS)
def test_an_option_of_another_library_is_answered_with_ours(make: Callable[..., Any], ours: str, theirs: str) -> None:
    """`sliding_window_size` resembles no option here: a user of resilience4j, Polly or tenacity got a bare list."""
    for name in theirs.split():
        with pytest.raises(TypeError, match=rf"no option '{name}' \(did you mean '{ours}'\?"):
            make(**{name: 3})


def test_hints_reach_configure_and_reconfigure() -> None:
    """The same names stand in files and in the environment."""
    with pytest.raises(
        TypeError, match=r"'absent': no policy has an option 'break_duration' \(did you mean 'open_for'"
    ):
        resilio.configure({"absent": {"break_duration": 3}})
    with pytest.raises(TypeError, match=r"no option 'minimum_throughput' \(did you mean 'min_calls'"):
        circuit_breaker().reconfigure(minimum_throughput=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: retry(on=OSError, max_retries=3), "the first attempt too, so three retries are attempts=4"),
        (lambda: retry(on=OSError, reraise=True), r"'reraise' \(leave it out: the last exception is always raised"),
        (lambda: retry(on=OSError, timeout=3), r"'timeout' \(for a limit over all attempts put deadline\(seconds\)"),
        (lambda: retry(on=OSError, before_sleep=print), r"'before_sleep' \(for a callback use on_event of the policy"),
        (lambda: circuit_breaker(failure_rate_threshold=50), r"'failure_rate'\? it is a share, so 50 % are 0\.5\)"),
        (
            lambda: rate_limit(max_calls=3, period=1),
            r"no option 'max_calls' \(did you mean 'rates'\? write a rate like \"100/s\"",
        ),
        (
            lambda: rate_limit(times=3, seconds=1),
            r"no option 'times' \(did you mean 'rates'\? write a rate like \"100/s\"",
        ),
        (lambda: rate_limit(rate="3/s"), r"did you mean 'rates'\? .*, which rate_limit takes by position\)"),
        (lambda: standard("wrong", on="http", rate="3/s"), r"no option 'rate' \(did you mean 'rates'\?"),
        (
            lambda: rate_limit(rates="3/s"),
            r"rate_limit takes rates by position, like rate_limit\(\"100/s\"\), not rates='3/s'",
        ),
    ],
)
def test_an_option_that_works_otherwise_here_is_answered_with_how(wrong: Callable[[], Any], message: str) -> None:
    """A name alone would mislead: retries are not attempts, a percentage is no share, a period is part of the rate."""
    with pytest.raises(TypeError, match=message):
        wrong()


def test_a_fleet_that_has_not_been_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`configure({"openai": {"scope": "shop"}})` ran before the module of the fleet, and named other values only."""
    monkeypatch.setattr(scope_module, "fleets", {})
    right = r"or the name of a fleet that has been made before \(none has been yet\), not 'shop'"
    with pytest.raises(ValueError, match=right):
        rate_limit("3/s", name="scoped", scope="shop")  # type: ignore[arg-type]
    monkeypatch.setattr(scope_module, "fleets", {"stock": scope_module.Scope()})
    with pytest.raises(ValueError, match=r"made before \(here stock\), not 'shop'"):
        rate_limit("3/s", name="scoped", scope="shop")  # type: ignore[arg-type]


def test_a_quantile_of_money_is_answered_with_money() -> None:
    """The error about a mistyped quantile of a spend limit spoke of "a time like 2.0 or '2s'"."""
    with pytest.raises(ValueError, match=r"reserve must be a quantile .*, or an amount of money like 0.05, not 'p9x'"):
        spend_limit("50 USD/day", reserve="p9x")
    with pytest.raises(ValueError, match=r"total must be .* or a time like 2.0 or '2s', not 'p9x'"):
        timeout("p9x")


def test_a_factory_that_needs_an_option_gets_no_key_for_it() -> None:
    """`keyed(bulkhead, key="k")` took the key for `max_concurrent`, and its error was about a None from nowhere."""
    for factory in (bulkhead, spend_limit):
        with pytest.raises(
            TypeError, match=rf"policy by itself, like `lambda: {factory.__name__}\(...\)`, not <function"
        ):
            keyed(factory, key="k", name="by key")  # type: ignore[arg-type]
    assert keyed(lambda: bulkhead(5), key="k", name="by key")["a"].snapshot().inflight == 0


class Service:
    @property
    def url(self) -> str:
        return "https://a.example"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: circuit_breaker(Service.url),
            r"<property .*> is a property and cannot be guarded: guard the function",
        ),
        (lambda: circuit_breaker()(OSError), r"is an exception and cannot be guarded: .* in options, like on=OSError"),
        (lambda: circuit_breaker(len, failure_rate=0.3), r"write circuit_breaker\(options\)\(function\) to guard"),
        (lambda: retry(OSError), r"write retry\(on=OSError\), not retry\(OSError\)"),
        (lambda: retry((OSError, EOFError)), r"write retry\(on=\(OSError, EOFError\)\), not retry\("),
        (lambda: retry("http"), r"write retry\(on='http'\), not retry\('http'\)"),
        (lambda: retry("pay", on=OSError), r"retry takes its name by its parameter: write retry\(\.\.\., name='pay'\)"),
        (lambda: bulkhead("pool", 3), r"write bulkhead\(3, name='pool'\)"),
        (lambda: bulkhead("pool"), r"not 'pool'; a name goes by its parameter, name='pool'"),
        (lambda: rate_limit("pool", "3/s"), r"not 'pool'; a name goes by its parameter, name='pool'"),
        (lambda: rate_limit("3/lightyear"), r"not '3/lightyear'$"),
        (bulkhead, r"bulkhead needs max_concurrent, like bulkhead\(10\): .* an int from 1 to 1000000000$"),
        (retry, r"retry needs on, like retry\(on=ConnectionError\): on must be an exception type"),
        (standard, r'standard needs name and on, like standard\("payments", on="http"\): name must be'),
        (lambda: standard(len), r'standard needs options before .*: write @standard\("payments", on="http"\)'),
        (lambda: standard("a", on=3), r"^on must be an exception type"),
    ],
)
def test_a_call_that_looks_right_is_answered_with_what_to_write(wrong: Callable[[], Any], message: str) -> None:
    """
    The error was about something else: about a name, for `@circuit_breaker` over a property; about decorators, for
    `retry(OSError)`; about the 3, for `bulkhead("pool", 3)`. Options beside a bare function were dropped in silence.
    """
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()


def test_a_breaker_over_a_coroutine_says_that_it_is_one() -> None:
    """`@circuit_breaker` over what a decorator below has called already took it for a bad name."""

    async def fetch() -> None:
        """Never run."""

    pending: Any = fetch()
    with pytest.raises(TypeError, match="is the awaitable of one call, no function, and cannot be guarded"):
        circuit_breaker(pending)
    pending.close()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (lambda: retry(on=OSError), "^a retry runs a function, and cannot guard a block"),
        (lambda: standard("blocks", on="http"), "^<Standard 'blocks' .*> has a deadline, which runs a function, and"),
        (lambda: pipeline(bulkhead(1), timeout(1)), "^<Pipeline .*> has a timeout, which runs a function, and cannot"),
    ],
)
def test_a_block_that_cannot_be_guarded_names_what_was_given(block: Callable[[], Any], message: str) -> None:
    """`with standard(...)` spoke of "a deadline" that its user had never written."""
    with pytest.raises(TypeError, match=message), block():
        """Never run."""


@pytest.mark.anyio
async def test_an_async_block_that_cannot_be_guarded_names_what_was_given() -> None:
    """The same with `async with`."""
    with pytest.raises(TypeError, match=r"^<Standard 'blocks' .*> has a deadline, which runs a function"):
        async with standard("blocks", on="http"):
            """Never run."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timeot": 3.0}, r"not 'timeot' \(did you mean 'timeout'\?\)"),
        ({"open_for": 5}, r"not 'open_for' \(an option of a part: write circuit_breaker=\{'open_for': \.\.\.\}\)"),
        ({"retry": {"max_retries": 3}}, r"no option 'max_retries' \(did you mean 'attempts'\? it counts the first"),
    ],
)
def test_override_says_what_it_can_change(changes: dict[str, Any], message: str) -> None:
    """An option of a part was answered with a list of the parts."""
    with pytest.raises(TypeError, match=message):
        override(standard("changing", on="http"), **changes)


def test_override_of_a_function_says_where_its_policy_is() -> None:
    """A guarded function was shown as "no policy", by a text that named its policy."""
    with pytest.raises(TypeError, match=r"that of a function is policy_of\(function\), not <guarded"):
        override(bulkhead(1)(len), max_concurrent=3)  # type: ignore[type-var]


@pytest.mark.parametrize("function", [standard, retry, fallback])
def test_signatures_show_what_a_default_means(function: Callable[..., Any]) -> None:
    """`help(standard)` showed `timeout = Ellipsis`."""
    assert not re.search(r"= (Ellipsis|no default)", str(inspect.signature(function)))
    assert "<by preset and name>" in str(inspect.signature(standard))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("AdaptiveLimit", "adaptive_limit"),
        ("Bulkhead", "bulkhead"),
        ("CircuitBreaker", "circuit_breaker"),
        ("Deadline", "deadline"),
        ("Fallback", "fallback"),
        ("Hedge", "hedge"),
        ("Keyed", "keyed"),
        ("LoadShed", "load_shed"),
        ("Pipeline", "pipeline"),
        ("RateLimit", "rate_limit"),
        ("Retry", "retry"),
        ("Standard", "standard"),
        ("Timeout", "timeout"),
    ],
)
def test_a_class_names_the_function_that_makes_it(name: str, function: str) -> None:
    """An editor offers both: `CircuitBreaker(fail_max=5)` says what to call instead."""
    for arguments, options in (((5,), {}), ((), {}), ((), {"fail_max": 5})):
        with pytest.raises(TypeError, match=rf"{name} is the class of what {function}\(\.\.\.\) makes: call that"):
            getattr(resilio, name)(*arguments, **options)


def test_a_coroutine_in_place_of_a_function_is_told_apart() -> None:
    """`call(fetch(7))` has called what was to be guarded."""

    async def fetch(user: int) -> int:
        return user

    pending: Any = fetch(7)
    with pytest.raises(
        TypeError, match=r"call: must be given the function and its arguments, call\(fn, \.\.\.\), not <c"
    ):
        bulkhead(1).call(pending)
    pending.close()


def test_a_function_that_makes_policies_stays_what_it_was() -> None:
    """Signature, docstring, name and pickling, and its use as the factory of `keyed`."""
    assert list(inspect.signature(retry).parameters)[:2] == ["on", "ignore"]
    assert (inspect.getdoc(circuit_breaker) or "").startswith("Return a breaker that opens")
    assert pickle.loads(pickle.dumps(bulkhead)) is bulkhead
    per_host = keyed(circuit_breaker, key="host")
    assert per_host["a.example"].state == "closed"
    assert bulkhead.__name__ == "bulkhead"
