"""
What servers advise: one recorded answer a row of the table, and the page of the docs that is made from it.

`python tests/failures/test_server_advice.py` writes the page anew.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import permanent, presets, retry, trail_of
from resilio._failures.retry_after import _verdicts, asked_by, retry_after_of, should_retry_of
from resilio._failures.server_advice import ROWS, Advice
from resilio.testing import VirtualTime

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "server-advice.md"
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
EPOCH = 1445412480
"""The same moment."""


def http(status: int = 429, body: object = b"", **headers: str) -> Any:
    """An SDK's error with an answer that has been read."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"date": DATE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    error: Any = RuntimeError(f"status {status}")
    error.response = httpx2.Response(status, headers=named, content=content)
    return error


def aws(code: str, **headers: str) -> Any:
    """An error of botocore."""
    error: Any = RuntimeError(code)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    metadata = {"HTTPStatusCode": 400, "HTTPHeaders": named, "RetryAttempts": 0}
    error.response = {"Error": {"Code": code, "Message": "Rate exceeded"}, "ResponseMetadata": metadata}
    return error


def grpc(*metadata: tuple[str, Any]) -> Any:
    """An error of grpcio."""
    error: Any = RuntimeError("RESOURCE_EXHAUSTED")
    error.trailing_metadata = lambda: metadata
    return error


class MongoError(Exception):
    """As pymongo's `OperationFailure`."""

    def __init__(self, *labels: str, **reply: Any) -> None:
        super().__init__("ingress request rate limit exceeded")
        self.code, self.details, self._labels = 462, {"ok": 0.0, "errorLabels": labels, **reply}, labels

    def has_error_label(self, label: str) -> bool:
        return label in self._labels


def having(**attributes: Any) -> Any:
    """An error with attributes."""
    error = RuntimeError("failed")
    vars(error).update(attributes)
    return error


GOOGLE = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "15"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.200s"},
        ],
    }
}
STATUS = bytes.fromhex(
    "0808120e51756f74612065786365656465641a510a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e4572726f"
    "72496e666f12250a13524154455f4c494d49545f4558434545444544120e676f6f676c65617069732e636f6d1a350a28747970652e676f6f67"
    "6c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12090a070801108084af5f"
)
"""A `google.rpc.Status` with ErrorInfo and a RetryInfo of 1.2 s, serialised by googleapis-common-protos 1.76."""

# By name: the error, the seconds to wait, whether to retry, and the rows that say so.
Recorded = tuple[Any, float | None, bool | None]
ANSWERS: dict[str, Recorded] = {
    "an attribute": (having(retry_after=1.2), 1.2, None),
    "rfc 9110, a date": (http(retry_after="Wed, 21 Oct 2015 07:28:30 GMT"), 30.0, None),
    "azure": (http(retry_after_ms="1200", retry_after="2"), 1.2, None),
    "cosmos": (http(x_ms_retry_after_ms="1200"), 1.2, None),
    "aws": (aws("SlowDown", **{"x-amz-retry-after": "1200"}), 1.2, True),
    "rfc 9110, seconds": (http(503, retry_after="2"), 2.0, None),
    "ietf, draft 8": (http(ratelimit='"burst";r=0;t=2, "day";r=7;t=90'), 2.0, None),
    "ietf, draft 3": (http(ratelimit_remaining="0", ratelimit_reset="30"), 30.0, None),
    "discord": (http(x_ratelimit_remaining="0", x_ratelimit_reset_after="1.2"), 1.2, None),
    "github": (http(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(EPOCH + 45)), 45.0, None),
    "x": (http(x_rate_limit_remaining="0", x_rate_limit_reset=str(EPOCH + 900)), 900.0, None),
    "openai, requests": (http(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m12s"), 72.0, None),
    "openai, tokens": (http(x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="120ms"), 0.12, None),
    "openai, left": (http(x_ratelimit_remaining_tokens="9", x_ratelimit_reset_tokens="120ms"), None, None),
    **{
        f"anthropic, {of}": (
            http(
                **{
                    f"anthropic-ratelimit-{of}-remaining": "0",
                    f"anthropic-ratelimit-{of}-reset": "2015-10-21T07:28:30Z",
                    "x-should-retry": "true",
                }
            ),
            30.0,
            True,
        )
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    },
    "openai, no quota": (http(x_should_retry="false"), None, False),
    "stripe": (http(409, stripe_should_retry="true"), None, True),
    "stripe, done": (http(500, stripe_should_retry="false"), None, False),
    "gemini": (http(429, GOOGLE), 1.2, None),
    "gemini in openai's format": (http(429, [GOOGLE]), 1.2, None),
    "google-genai": (having(code=429, status="RESOURCE_EXHAUSTED", details=GOOGLE, response=None), 1.2, None),
    "an sdk that keeps the body": (having(status_code=503, body=GOOGLE["error"]), 1.2, None),
    "google over grpc": (grpc(("grpc-status-details-bin", STATUS)), 1.2, None),
    "google-api-core": (having(response=grpc(("grpc-status-details-bin", STATUS))), 1.2, None),
    "mcp, a result": (having(is_error=True, structured_content={"retry_after": 1.2}), 1.2, None),
    "mcp, an error": (having(error=SimpleNamespace(code=-32050, data={"retry_after": 1.2})), 1.2, None),
    "grpc": (grpc(("grpc-retry-pushback-ms", "1200")), 1.2, None),
    "grpc, no": (grpc(("grpc-retry-pushback-ms", "-1"), ("grpc-status-details-bin", STATUS)), 1.2, False),
    "mongodb": (MongoError("SystemOverloadedError", "RetryableError"), 0.1, True),
    "mongodb 9": (MongoError("SystemOverloadedError", "RetryableError", baseBackoffMS=1200), 1.2, True),
    "mongodb, begun": (MongoError("SystemOverloadedError"), 0.1, False),
    **{row.name: (aws(row.name), None, True) for row in ROWS if (row.who, row.where) == ("AWS", "code")},
    **{row.name: (having(sqlstate=row.name), None, True) for row in ROWS if row.who == "SQL databases"},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_recorded_answer_of_a_server_is_understood(name: str) -> None:
    """AWS, Google and MongoDB named a time, and were asked again at once."""
    error, seconds, again = ANSWERS[name]
    assert retry_after_of(error) == (None if seconds is None else pytest.approx(seconds))
    assert should_retry_of(error) is again


def test_every_row_has_a_recorded_answer() -> None:
    """A row that no answer reaches is a promise without a proof."""
    asked = {found.row for error, _, _ in ANSWERS.values() if (found := asked_by(error))}
    verdicts = {row for error, _, _ in ANSWERS.values() for row in _verdicts(error)}
    dates = {row for row in ROWS if (row.where, row.unit) == ("attribute", "HTTP date")}  # see test_retry_after.py
    assert set(ROWS) - dates <= asked | verdicts


@pytest.mark.parametrize(
    "name", [name for name, (_, seconds, again) in ANSWERS.items() if seconds and again is not False]
)
def test_a_retry_waits_as_long_as_the_server_asks(vt: VirtualTime, name: str) -> None:
    """With x-amz-retry-after of 1.2 s it came after 0.11 s, with Google's RetryInfo of 2 s after 0.06 s."""
    error, seconds, _ = ANSWERS[name]
    called: list[float] = []

    def call() -> None:
        called.append(vt.now)
        if len(called) == 1:
            raise error

    retry(on=Exception, max_retry_after=1000, backoff=0.01, budget=None).call(call)
    assert called[1] - called[0] >= seconds - 1e-6


# ---- bodies ------------------------------------------------------------------------------------------------------


class Unread(httpx2.SyncByteStream):
    """A body that must not be read."""

    def __iter__(self):
        pytest.fail("advice is not worth a wait for the connection")


PADDED = json.dumps(GOOGLE | {"padding": "x" * 16_384}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(429, stream=Unread()),
        httpx2.Response(500, json=GOOGLE),
        httpx2.Response(200, json=GOOGLE),
        httpx2.Response(429, content=PADDED),
        httpx2.Response(429, content=b"[" * 10_000),
        httpx2.Response(429, content=b"{"),
        httpx2.Response(
            429, json={"error": {"details": [{"@type": "google.rpc.RetryInfo", "retryDelay": 2}, 3, None]}}
        ),
        httpx2.Response(429, json=[GOOGLE, GOOGLE]),
        httpx2.Response(429, json={"error": "busy"}),
        SimpleNamespace(status_code=429, raw=SimpleNamespace(closed=False), content=json.dumps(GOOGLE).encode()),
    ],
    ids=["unread", "500", "200", "long", "deep", "cut off", "odd", "two", "text", "requests, open"],
)
def test_other_bodies_are_passed_over(answer: Any) -> None:
    """Bodies count only of a 429 or a 503, if they are here, of 16 KiB at most; and whatever they are, none raises."""
    assert retry_after_of(answer) is None


@given(st.binary(max_size=60) | st.integers(0, len(STATUS) - 1).map(lambda cut: STATUS[:cut]))
def test_malformed_status_details_never_raise(details: bytes) -> None:
    """Whatever a server sends; and what is beside it still counts."""
    error = grpc(("grpc-retry-pushback-ms", "7"), ("grpc-status-details-bin", details))
    assert retry_after_of(error) == 0.007
    seconds = retry_after_of(grpc(("grpc-status-details-bin", details)))
    assert seconds is None or 0 < seconds < float("inf")


# ---- what policies do with it ------------------------------------------------------------------------------------


def test_a_wait_above_the_cap_is_on_the_error(vt: VirtualTime) -> None:
    """The error has the time, its place and the limit that it exceeds; it named the time alone."""
    with pytest.raises(RuntimeError) as caught:
        retry(on=Exception, budget=None).call(raises(aws("SlowDown", **{"x-amz-retry-after": "86400000"})))
    trail = trail_of(caught.value)
    assert trail is not None
    assert (trail.stop_reason, trail.retry_after, trail.allowed) == ("retry_after", 86400.0, 60.0)
    assert trail.asked_by == "header x-amz-retry-after"
    assert caught.value.__notes__[0].endswith(
        "it asks for 8.64e+04 s by header x-amz-retry-after, more than max_retry_after=60"
    )


def raises(error: Exception) -> Any:
    """A function that raises."""

    def call() -> None:
        raise error

    return call


def test_an_overloaded_mongodb_is_asked_again_though_the_call_is_not_idempotent(vt: VirtualTime) -> None:
    """It labels errors of commands that it has not begun; the preset of databases took them for the caller's fault."""
    errors = [MongoError("SystemOverloadedError", "RetryableError")]
    policy = retry(on="database", backoff=0.0, budget=None)
    assert policy.call(lambda: raises(errors.pop())() if errors else "done") == "done"
    assert vt.now >= 0.1
    begun = raises(MongoError("SystemOverloadedError"))
    with pytest.raises(MongoError) as caught:
        retry(on=MongoError, budget=None).call(begun)
    assert trail_of(caught.value).stop_reason == "not_retryable"


def test_the_mark_of_an_exception_is_stronger_than_a_server() -> None:
    """`permanent` is the caller's own word."""
    assert should_retry_of(permanent(MongoError("SystemOverloadedError", "RetryableError"))) is False


def test_codes_of_the_table_decide_what_was_not_done() -> None:
    """The presets judge by the table."""
    assert presets.status_of(aws("SlowDown")) == 429
    assert presets.status_of(aws("ValidationException")) == 400
    assert presets.database.part("unsent")[0](having(sqlstate="40001"))


# ---- the page ----------------------------------------------------------------------------------------------------

HEAD = "| server | where | name | value | meaning |\n|---|---|---|---|---|\n"


def table() -> str:
    """Return the table of the page: neighbouring rows that differ by their names alone are one."""
    alike = groupby(ROWS, lambda row: (row.who, row.where, row.unit, row.meaning, bool(row.left), row.without))
    return HEAD + "".join(line(list(group)) for _, group in alike)


def line(group: list[Advice]) -> str:
    """Return one line of the table."""
    first = group[0]
    names = ", ".join(f"`{row.name}`" for row in group)
    left = ", ".join(f"`{row.left}`" for row in group if row.left)
    meaning = first.meaning + (f", if {left} is 0" if left else "")
    meaning += f", without `{first.without}`" if first.without else ""
    value = f"`{first.unit}`" if first.unit in ("true", "false") else first.unit
    return f"| {first.who} | {first.where} | {names} | {value} | {meaning} |\n".replace("|  |", "| |")


def rewritten() -> str:
    """Return the page with its table as it has to be."""
    fresh = lambda match: f"{match[1]}{table()}<!-- end -->"  # noqa: E731
    return re.sub(r"(<!-- advice -->\n).*?<!-- end -->", fresh, PAGE.read_text(), flags=re.DOTALL)


def test_the_page_is_what_the_table_says() -> None:
    """One place has the knowledge; the page of the retry listed a part of it by hand."""
    assert "<!-- advice -->" in PAGE.read_text()
    assert rewritten() == PAGE.read_text(), "run python tests/failures/test_server_advice.py"


if __name__ == "__main__":
    PAGE.write_text(rewritten())
