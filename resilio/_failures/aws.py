"""
Answers in the form of AWS: a dict with "ResponseMetadata", as botocore returns it and as its errors carry it.

Nothing is imported. The values come from a server, so each is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["headers_of", "retries_of", "status_of"]

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Codes of errors that mean 429, whatever their status; AWS sends most of them with a 400."""


def _metadata(answer: Any) -> Mapping[str, Any]:
    metadata = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def status_of(answer: Any) -> int | None:
    """Return the status of an answer, 429 for a code that means it; None if it has none."""
    status = _metadata(answer).get("HTTPStatusCode")
    if not isinstance(status, int) or not 100 <= status <= 599:
        return None
    error = answer.get("Error")
    return 429 if isinstance(error, dict) and error.get("Code") in _THROTTLED else int(status)


def headers_of(answer: Any) -> Any:
    """Return the headers of an answer; None if it has none."""
    return _metadata(answer).get("HTTPHeaders")


def retries_of(subject: Any) -> int:
    """
    Return the number of attempts that the client has already made again by itself.

    Args:
        subject: An exception with a `response`, or an answer.
    """
    try:
        retries = _metadata(getattr(subject, "response", subject)).get("RetryAttempts")
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return 0
    return retries if type(retries) is int and 0 < retries < 1000 else 0
