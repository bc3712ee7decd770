"""What a failure may say about when to come back."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import httpx2
import pytest

from resilio._retry_after import retry_after_of


def failure(**attributes):
    """An exception with the attributes that a client's error would have."""
    error = RuntimeError("failed")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def answered(**headers):
    """An exception that carries a response with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure(response=httpx2.Response(503, headers=named))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (failure(), None),
        (failure(retry_after=2), 2.0),
        (failure(retry_after=0.25), 0.25),
        (failure(retry_after=timedelta(milliseconds=300)), 0.3),
        (failure(retry_after="1.5"), 1.5),
        (answered(Retry_After="7"), 7.0),
        (answered(Retry_After="7", Retry_After_Ms="6500"), 6.5),
        (answered(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 30.0),
        (failure(headers={"Retry-After": "3"}), 3.0),
        (failure(response=SimpleNamespace(headers={"retry-after": b"4"})), 4.0),
        (ExceptionGroup("both", [failure(retry_after=1), failure(retry_after=5), failure()]), 5.0),
    ],
)
def test_seconds_milliseconds_and_dates_are_understood(error, seconds):
    """An attribute, a header of the response or of the error itself; of a group the longest."""
    assert retry_after_of(error) == seconds


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, None, "soon", "-3", object(), 10**400])
def test_what_makes_no_sense_is_passed_over(value):
    """A foreign value never makes the breaker raise or wait for nonsense."""
    assert retry_after_of(failure(retry_after=value)) is None


@pytest.mark.parametrize("headers", [{"Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT"},
                                     {"Retry_After": "tomorrow", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}])  # fmt: skip
def test_a_date_without_a_date_to_measure_from_is_passed_over(headers):
    """The local wall clock is never asked: it need not agree with the server's."""
    assert retry_after_of(answered(**headers)) is None


def test_an_attribute_that_raises_is_passed_over():
    """Whatever a foreign exception does, looking at it is safe."""

    class HostileError(RuntimeError):
        @property
        def retry_after(self):
            raise ValueError("no")

    assert retry_after_of(HostileError()) is None
