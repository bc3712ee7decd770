"""What a failure says about when to come back: a `retry_after` attribute, or the headers of its response."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

__all__ = ["retry_after_of"]

_HEADERS = (("retry-after-ms", 1e-3), ("retry-after", 1.0))


def retry_after_of(error: BaseException) -> float | None:
    """
    Return the seconds that `error` asks to wait, None if it does not say; of a group, the longest of its leaves.

    Looked at are `error.retry_after` (a number, a timedelta or text) and the headers `retry-after-ms` and `retry-after`
    (seconds, or an HTTP date, which is measured from the `date` header beside it: two clocks need not agree) of
    `error.response` or of `error` itself. What makes no sense is passed over. Never raises.

    Args:
        error: What a call raised.

    Returns:
        Finite seconds > 0. The caller bounds them: a header is foreign input.

    Source: RFC 9110, section 10.2.3.
    """
    try:
        if isinstance(error, BaseExceptionGroup):
            return max(filter(None, map(retry_after_of, error.exceptions)), default=None)
        said = _seconds(getattr(error, "retry_after", None))
        return _from_headers(error) if said is None else said
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None


def _from_headers(error: BaseException) -> float | None:
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        for name, unit in _HEADERS:
            said = _seconds(_header(headers, name), unit, _header(headers, "date"))
            if said is not None:
                return said
    return None


def _header(headers: Any, name: str) -> Any:
    get = getattr(headers, "get", None)
    if get is None:
        return None
    value = get(name)
    value = get(name.title()) if value is None else value  # a plain dict knows nothing of case
    return value.decode("ascii") if isinstance(value, bytes) else value


def _seconds(value: Any, unit: float = 1.0, date: Any = None) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, str):
        value = _from_text(value, date)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    result = value * unit
    return result if math.isfinite(result) and result > 0 else None


def _from_text(text: str, date: Any) -> float | None:
    try:
        return float(text)
    except ValueError:
        if not isinstance(date, str):
            return None
        from email.utils import parsedate_to_datetime

        return (parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds()
