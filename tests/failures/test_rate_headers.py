"""Headers about rate limits, and answers in the form of AWS: when to come back, and what has been tried already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import presets, retry
from resilio._failures import aws
from resilio._failures.retry_after import retry_after_of
from resilio.testing import VirtualTime

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
EPOCH = 1445412480
"""The same moment."""


def answer(headers: dict[str, str]) -> Any:
    """An exception whose response has these headers."""
    error: Any = RuntimeError("failed")
    error.response = SimpleNamespace(headers={"Date": DATE, **headers})
    return error


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "30"}, 30.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12.5"}, 12.5),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(EPOCH + 45)}, 45.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((EPOCH + 45) * 1000)}, 45.0),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": str(EPOCH + 900)}, 900.0),
        ({"RateLimit": "limit=100, remaining=0, reset=20"}, 20.0),
        ({"RateLimit": '"default";r=0;t=25'}, 25.0),
        ({"RateLimit": '"burst";r=0;t=2, "day";r=0;t=50, "hour";r=7;t=90'}, 50.0),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "30", "Retry-After": "7"}, 7.0),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "30"}, None),
        ({"RateLimit": '"default";r=1;t=25'}, None),
        ({"RateLimit": "limit=100, remaining=9, reset=20"}, None),
        ({"RateLimit-Reset": "30"}, None),
        ({"RateLimit-Remaining": "0"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "soon"}, None),
        ({"RateLimit-Remaining": "none", "RateLimit-Reset": "3"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(EPOCH - 45)}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}, None),
        ({"RateLimit": '"default";r=0;t=nan'}, None),
    ],
)
def test_a_limit_that_is_used_up_says_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    """Most APIs send no Retry-After with their 429, but these: a retry came back at once, and was rejected again."""
    assert retry_after_of(answer(headers)) == seconds


@given(st.dictionaries(st.sampled_from(["ratelimit", "ratelimit-remaining", "ratelimit-reset"]), st.text(max_size=40)))
def test_foreign_text_is_a_finite_time_or_none(headers: dict[str, str]) -> None:
    """Whatever a server sends."""
    found = retry_after_of(answer(headers))
    assert found is None or 0 < found < 1e16


def test_a_retry_waits_for_the_limit_to_be_renewed(vt: VirtualTime) -> None:
    """Until then each attempt would be rejected again."""
    errors = [answer({"RateLimit-Remaining": "0", "RateLimit-Reset": "10"}), answer({})]

    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    assert retry(on=RuntimeError, backoff=0, budget=None).call(call) == "done"
    assert 10.0 <= vt.now <= 60.0


# ---- botocore --------------------------------------------------------------------------------------------------------


class ClientError(Exception):
    """As botocore's: its answer is a dict."""

    def __init__(self, status: int, code: str = "", headers: dict[str, str] | None = None, retries: int = 0) -> None:
        super().__init__(code)
        metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}, "RetryAttempts": retries}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": metadata}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ClientError(503), 503),
        (ClientError(404, "NoSuchKey"), 404),
        (ClientError(400, "ThrottlingException"), 429),
        (ClientError(400, "ProvisionedThroughputExceededException"), 429),
        (ClientError(503, "SlowDown"), 429),
        (ClientError(400, "ValidationException"), 400),
    ],
)
def test_errors_of_aws_have_a_status(error: ClientError, status: int) -> None:
    """It is deep in a dict, and throttling comes with a 400: no preset saw either."""
    assert presets.status_of(error) == presets.status_of(error.response) == status


def test_errors_of_aws_say_when_to_come_back() -> None:
    """By the headers in their dict."""
    error = ClientError(503, headers={"retry-after": "7"})
    assert retry_after_of(error) == retry_after_of(error.response) == 7.0


@pytest.mark.parametrize(
    "odd", [{}, {"ResponseMetadata": 3}, {"ResponseMetadata": {"HTTPStatusCode": "503"}}, [], None]
)
def test_other_dicts_have_none(odd: Any) -> None:
    """A dict is the result of many a function."""
    subject = SimpleNamespace(response=odd)
    assert (presets.status_of(odd), retry_after_of(odd), aws.retries_of(odd)) == (None, None, 0)
    assert (presets.status_of(subject), retry_after_of(subject), aws.retries_of(subject)) == (None, None, 0)


@pytest.mark.parametrize(("retries", "calls"), [(0, 3), (1, 2), (2, 1), (4, 1), (-1, 3), ("2", 3)])
def test_attempts_that_the_client_has_made_count(retries: Any, calls: int) -> None:
    """A client with four retries of its own under a retry of three made fifteen requests of one call."""
    made: list[int] = []

    def call() -> None:
        made.append(1)
        raise ClientError(503, retries=retries)

    with pytest.raises(ClientError) as caught:
        retry(on="http", idempotent=True, attempts=3, backoff=0, budget=None).call(call)
    assert len(made) == calls
    assert caught.value.resilio.stop_reason == "attempts"  # type: ignore[attr-defined]


def test_attempts_that_the_client_has_made_count_in_results_and_blocks() -> None:
    """A result that `failed_if` takes for a failure is such a dict itself."""
    bad = ClientError(503, retries=2).response
    made: list[int] = []
    policy = retry(on=OSError, failed_if=lambda result: result is bad, attempts=3, backoff=0, budget=None)
    policy.call(lambda: made.append(1) or bad)  # type: ignore[func-returns-value]
    for attempt in policy.retrying():
        with attempt:
            made.append(2)
            attempt.result(bad)
    assert made == [1, 2]
