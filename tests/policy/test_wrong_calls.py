"""What somebody meets who writes it as another library would have it: a message that says what to write."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import resilio
from resilio import bulkhead, circuit_breaker, keyed, load_shed, pipeline, retry, standard, timeout


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
