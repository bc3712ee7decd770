"""
Answers in the form of AWS: a dict with "ResponseMetadata", as botocore returns it and as its errors carry it.

Nothing is imported. The values come from a server, so each is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilio._failures.server_advice import codes_of

__all__ = ["code_of", "headers_of", "retries_of", "status_of"]

_THROTTLED = codes_of("AWS")
"""Codes of errors that mean 429, whatever their status."""


def _metadata(answer: Any) -> Mapping[str, Any]:
    metadata = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def status_of(answer: Any) -> int | None:
    """Return the status of an answer, 429 for a code that means it; None if it has none."""
    status = _metadata(answer).get("HTTPStatusCode")
    if not isinstance(status, int) or not 100 <= status <= 599:
        return None
    return 429 if code_of(answer) in _THROTTLED else int(status)


def code_of(answer: Any) -> str | None:
    """Return the code of an error; None if it has none."""
    error = answer.get("Error") if _metadata(answer) else None
    code = error.get("Code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None


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
