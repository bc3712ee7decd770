"""The library's exceptions as a user's test makes them: any of them has a text."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from resilio import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    RateLimitedError,
)

KINDS = [
    CircuitOpenError,
    BulkheadFullError,
    RateLimitedError,
    OverloadedError,
    CallTimeoutError,
    DeadlineExceededError,
]


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", ["a text", None, object, 1.5, pytest.param(10**400, id="huge")])
def test_an_error_made_of_anything_has_a_text(kind: Any, number: Any) -> None:
    """A test gives a text where a number belongs: `str` and `repr` of it are no errors of their own."""
    made = {
        CallTimeoutError: lambda: CallTimeoutError("total", number),
        DeadlineExceededError: lambda: DeadlineExceededError(number, number, number),
    }
    error = made.get(kind, lambda: kind("payments", measured=number, limit=number, retry_after=number))()
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one)
        assert str(one) in eval(repr(one), {type(one).__name__: str})
    assert number is None or ("a text" in str(error)) == (number == "a text")


def test_a_remedy_is_that_of_the_policy_which_rejected() -> None:
    """A server that keeps its last permits for important calls said that money was reserved by calls under way."""
    money = "the money missing is reserved by calls that are under way"
    assert money in str(RateLimitedError("spend_limit", reason="reserved"))
    assert str(OverloadedError("load_shed", reason="reserved")) == "load_shed rejected the call: reserved"
