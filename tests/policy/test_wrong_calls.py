"""What somebody meets who writes it as another library would have it: a message that says what to write."""

from __future__ import annotations

import inspect
import pickle
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
    pipeline,
    rate_limit,
    retry,
    standard,
    timeout,
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: retry(on=OSError, max_attempts=3), r"retry: no option 'max_attempts' \(did you mean 'attempts'\?\)"),
        (lambda: retry(on=OSError, tries=3), r"'tries' \(did you mean 'attempts'\?\); there are: attempts, backoff"),
        (lambda: circuit_breaker(fail_max=5), r"'fail_max' \(did you mean 'consecutive'\?\); there are: consecutive"),
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
    (circuit_breaker, "probes", "permitted_number_of_calls_in_half_open_state success_threshold"),
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
        (lambda: rate_limit(max_calls=3, period=1), r"no option 'max_calls' \(write a rate, like \"100/s\"\)"),
        (lambda: rate_limit(times=3, seconds=1), r"no option 'times' \(write a rate, like \"100/s\"\)"),
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
