"""The rules by which a call's end is judged, apart from any policy."""

from __future__ import annotations

import asyncio
import logging

import pytest

from resilio import adaptive_limit, circuit_breaker, keyed, retry
from resilio._failures.outcome import Outcome, judge_error, judge_value
from resilio.errors import BulkheadFullError, CircuitOpenError, RejectedError

SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED


def broken(subject):
    """A predicate with a bug."""
    raise RuntimeError("bug")


def test_the_default_rule_needs_no_python():
    """The native core judges the default by itself."""
    assert judge_error((Exception,), ()) is None
    assert judge_value(None) is None


@pytest.mark.parametrize(
    ("on", "ignore", "error", "outcome"),
    [
        ((OSError,), (), ConnectionError(), FAILURE),
        ((OSError,), (), ValueError(), SUCCESS),
        ((Exception,), (KeyError,), KeyError(), IGNORED),
        ((Exception,), (KeyError,), OSError(), FAILURE),
        ((KeyError,), (LookupError,), KeyError(), IGNORED),
        (lambda error: isinstance(error, OSError), (), OSError(), FAILURE),
        (lambda error: isinstance(error, OSError), (), KeyError(), SUCCESS),
        (lambda _: IGNORED, (), OSError(), IGNORED),
        (lambda _: SUCCESS, (), OSError(), SUCCESS),
        ((Exception,), lambda error: isinstance(error, KeyError), KeyError(), IGNORED),
        ((KeyError,), lambda _: IGNORED, OSError(), SUCCESS),
        ((OSError,), lambda _: SUCCESS, OSError(), SUCCESS),
        ((OSError,), lambda _: FAILURE, OSError(), FAILURE),
        ((OSError,), (KeyError,), KeyError(), IGNORED),
        (lambda _: IGNORED, lambda _: FAILURE, OSError(), IGNORED),
        (lambda _: SUCCESS, lambda _: FAILURE, OSError(), SUCCESS),
        ((Exception,), lambda _: False, OSError(), FAILURE),
    ],
)
def test_types_to_ignore_come_before_on_a_predicate_after_it_and_the_rest_is_success(on, ignore, error, outcome):
    """Types and predicates decide in the documented order; a predicate may answer with an Outcome."""
    assert judge_error(on, ignore)(error) is outcome


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt(), SystemExit(1),
     BaseExceptionGroup("mixed", [OSError(), KeyboardInterrupt()])],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_cancellation_is_no_outcome_even_when_listed(error):
    """Cancellations teach nothing, whatever the rules say."""
    assert judge_error((BaseException,), ())(error) is IGNORED
    assert judge_error(lambda _: True, ())(error) is IGNORED


def test_a_rejection_counts_only_if_its_class_is_listed():
    """A nested guard's rejection says nothing about the dependency, unless the user says that it does."""
    full, rejected = BulkheadFullError("bulkhead"), CircuitOpenError("circuit_breaker")
    assert judge_error((Exception,), (KeyError,))(full) is IGNORED
    assert judge_error((BulkheadFullError,))(full) is FAILURE
    assert judge_error((BulkheadFullError,))(rejected) is IGNORED
    assert judge_error((RejectedError,))(rejected) is FAILURE
    assert judge_error(lambda _: True)(full) is IGNORED


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([OSError(), KeyError(), ValueError()], FAILURE),
        ([KeyError(), ValueError()], IGNORED),
        ([ValueError(), ExceptionGroup("inner", [TypeError(), OSError()])], FAILURE),
        ([ValueError(), TypeError()], SUCCESS),
        ([BulkheadFullError("bulkhead"), ValueError()], IGNORED),
    ],
)
def test_a_group_fails_if_one_leaf_matches(errors, outcome):
    """The leaves decide, at any depth: a failure first, then what is ignored."""
    assert judge_error((OSError,), (KeyError,))(ExceptionGroup("group", errors)) is outcome


def test_a_listed_type_of_group_stands_for_the_whole_group():
    """Whoever lists ExceptionGroup means it."""
    group = ExceptionGroup("group", [ValueError()])
    assert judge_error((ExceptionGroup,))(group) is FAILURE
    assert judge_error((Exception,), (ExceptionGroup,))(group) is IGNORED


@pytest.mark.parametrize("judge", [judge_error(broken), judge_error((Exception,), broken), judge_value(broken)])
def test_a_raising_predicate_means_ignored_and_is_logged(judge, caplog):
    """A bug in a predicate never changes a call, and does not stay hidden."""
    with caplog.at_level(logging.WARNING, logger="resilio"):
        assert judge(OSError()) is IGNORED
    assert "raised for a OSError: ignored" in caplog.text


class StatusError(Exception):
    """What an HTTP client raises."""

    def __init__(self, status):
        self.status = status


@pytest.mark.parametrize("on", [StatusError, lambda error: isinstance(error, StatusError)])
def test_a_predicate_to_ignore_is_asked_only_about_what_on_matches(on, caplog):
    """It may use what `on` has made sure of: it neither raises nor is logged for exceptions without a status."""
    judge = judge_error((on,) if isinstance(on, type) else on, lambda error: error.status == 404)
    with caplog.at_level(logging.WARNING, logger="resilio"):
        assert [judge(error) for error in (StatusError(404), StatusError(500))] == [IGNORED, FAILURE]
        assert judge(OSError()) is SUCCESS
        assert judge(BulkheadFullError("bulkhead")) is IGNORED
        assert judge(ExceptionGroup("two", [OSError(), StatusError(500)])) is FAILURE
        assert judge(ExceptionGroup("two", [OSError(), StatusError(404)])) is IGNORED
    assert not caplog.records


def test_results_are_judged_by_failed_if_alone():
    """No attribute of a result is read as an outcome (CB-18); `failed_if` may answer with an Outcome."""
    judge = judge_value(lambda status: status >= 500)
    assert judge(503) is FAILURE
    assert judge(404) is SUCCESS
    assert judge_value(lambda _: IGNORED)(429) is IGNORED


def test_a_predicate_that_raises_names_its_policy(caplog: pytest.LogCaptureFixture) -> None:
    """With fifty breakers in a process "failed_if raised" did not say where to look."""
    caplog.set_level(logging.WARNING, logger="resilio")
    breaker = circuit_breaker("payments", failed_if=broken)
    breaker.call(int)
    retry(on=broken, name="search").try_call(int, "x")
    adaptive_limit(name="limit", failed_if=broken).call(int)
    keyed(lambda: circuit_breaker(failed_if=broken), key="host", name="hosts")(lambda host: host)("a")
    assert caplog.messages == [
        "circuit_breaker 'payments': failed_if raised for a int: ignored, and not logged again",
        "retry 'search': on raised for a ValueError: ignored, and not logged again",
        "adaptive_limit 'limit': failed_if raised for a int: ignored, and not logged again",
        "circuit_breaker 'hosts': failed_if raised for a str: ignored, and not logged again",
    ]
    fields = vars(caplog.records[0])
    assert (fields["policy"], fields["policy_name"]) == ("circuit_breaker", "payments")
