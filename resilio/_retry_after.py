"""What a failure says about when to come back: a `retry_after` attribute, or the headers of its response."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

__all__ = ["retry_after_of"]

_HEADERS = (("retry-after-ms", 1e-3), ("retry-after", 1.0))


def retry_after_of(error: BaseException) -> float | None:
    """
    Return the seconds that `error` asks to wait, None if it does not say; of a group, the longest of its leaves.

    Looked at are `error.retry_after` (a number, a timedelta or text) and the headers `retry-after-ms` and `retry-after`
    (seconds or an HTTP date) of `error.response` or of `error` itself. What makes no sense is passed over. Never raises.

    Args:
        error: What a call raised.

    Returns:
        Finite seconds > 0. The caller bounds them: a header is foreign input.

    Source: RFC 9110, section 10.2.3.
    """
    if isinstance(error, BaseExceptionGroup):
        return max(filter(None, map(retry_after_of, error.exceptions)), default=None)
    try:
        said = _seconds(getattr(error, "retry_after", None))
        return _from_headers(error) if said is None else said
    except Exception:  # a foreign object may raise anything from an attribute
        return None


def _from_headers(error: BaseException) -> float | None:
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        for name, unit in _HEADERS:
            said = _seconds(_header(headers, name), unit)
            if said is not None:
                return said
    return None


def _header(headers: Any, name: str) -> Any:
    get = getattr(headers, "get", None)
    if get is None:
        return None
    value = get(name)
    return get(name.title()) if value is None else value  # a plain dict knows nothing of case


def _seconds(value: Any, unit: float = 1.0) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bytes):
        value = value.decode("ascii")
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    result = float(value) * unit
    return result if math.isfinite(result) and result > 0 else None


def _from_text(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        # A date is the one thing here that only the wall clock can measure.
        return parsedate_to_datetime(text).timestamp() - time.time()
