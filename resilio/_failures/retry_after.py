"""A failure's own advice on retries: when, by a `retry_after` attribute or a header, and whether at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs

from resilio._failures import aws
from resilio._failures.permanent import is_permanent
from resilio._failures.rate_headers import until_renewed

__all__ = ["FOR_CLIENT", "Noted", "kept_retry_after", "retry_after_of", "should_retry_of"]

_HEADERS = (("retry-after-ms", 1e-3), ("retry-after", 1.0))
_VERDICTS = {"true": True, "false": False}
FOR_CLIENT = "_resilio_for_client"
"""Attribute of a response whose `x-should-retry` an integration has set for the client's own retry, and no other."""
_PUSHBACK = "grpc-retry-pushback-ms"
_DIGITS = "[0-9]+"
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


@attrs.frozen
class Noted:
    """The pause that an answer has asked for, in seconds; kept after the answer itself is released."""

    retry_after: float


def kept_retry_after(answer: object) -> Noted | None:
    """Return the pause to keep of a failed answer for the policies that settle it, None if it asks for none."""
    asked = retry_after_of(answer)
    return None if asked is None else Noted(asked)


def retry_after_of(subject: object) -> float | None:
    """
    Return the seconds that `subject` asks to wait, None if it asks for none; for a group, the longest of its leaves.

    The sources are, in this order:

    - `subject.retry_after`: a number, a timedelta or text;
    - the headers `retry-after-ms` and `retry-after` of `subject.response`, then of `subject` itself, either of which
      may be an answer of botocore, a dict; without them the headers about a rate limit that is used up, like
      `ratelimit-reset` and `x-ratelimit-reset`;
    - `grpc-retry-pushback-ms` in its `trailing_metadata()`.

    A header holds seconds in ASCII digits, or an HTTP date. A date is measured from the `date` header beside it, as two
    clocks need not agree; without one, from the local clock. Names of headers are case-insensitive, in a plain dict
    too. Of several headers of one name, as proxies add them, the longest time counts; if one of them is malformed, all
    are skipped, like any other malformed value. Never raises.

    Args:
        subject: The exception that a call raised, or a response that it returned.

    Returns:
        Finite seconds > 0. The caller bounds them: a header is foreign input.

    Source: RFC 9110, section 10.2.3.
    """
    try:
        if isinstance(subject, BaseExceptionGroup):
            return max(filter(None, map(retry_after_of, subject.exceptions)), default=None)
        found = _seconds(getattr(subject, "retry_after", None))
        if found is None:
            found = _from_headers(subject)
        return _seconds(_pushback(subject), 1e-3) if found is None else found
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None


def should_retry_of(subject: object) -> bool | None:
    """
    Return True if `subject` asks for a retry, False if it forbids one, None if it does neither.

    The sources are the mark of :func:`resilio.permanent`, which forbids; the header `x-should-retry` (true or false, in
    any case) of `subject.response` or of `subject` itself; and `grpc-retry-pushback-ms` in its `trailing_metadata()`: a
    negative value, or no number, forbids. A group forbids a retry if one leaf does, and asks for one if all leaves do.
    Malformed values are skipped. Never raises.

    Args:
        subject: The exception that a call raised, or a response that it returned.

    Source: gRPC proposal A6, "Pushback".
    """
    try:
        if isinstance(subject, BaseExceptionGroup):
            return _joint([should_retry_of(leaf) for leaf in subject.exceptions])
        if getattr(subject, "_resilio_replay", None) is False:  # set by an integration: not to be sent twice
            return False
        if is_permanent(subject):
            return False
        meant = not getattr(getattr(subject, "response", None), FOR_CLIENT, False)
        for headers in _all_headers(subject) if meant else ():
            found = _header(headers, "x-should-retry")
            verdict = _VERDICTS.get(found.strip().lower()) if isinstance(found, str) else None
            if verdict is not None:
                return verdict
        return _forbidden(_pushback(subject))
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None


def _joint(verdicts: list[bool | None]) -> bool | None:
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _all_headers(subject: object) -> Iterator[Any]:
    for holder in (getattr(subject, "response", None), subject):
        yield aws.headers_of(holder) if isinstance(holder, dict) else getattr(holder, "headers", None)


def _from_headers(subject: object) -> float | None:
    for headers in _all_headers(subject):
        for name, unit in _HEADERS:
            found = _seconds(_header(headers, name), unit, _header(headers, "date"))
            if found is not None:
                return found
        renewed = until_renewed(partial(_header, headers), partial(_now, headers))
        if renewed is not None and renewed > 0:
            return renewed
    return None


def _now(headers: Any) -> float:
    """Return the server's time of day by its `date` header, else the local one."""
    there = _date(_header(headers, "date"))
    return (there or datetime.now(UTC)).timestamp()  # wall clock: an answer without a date has no other reference


def _header(headers: Any, name: str) -> Any:
    get = getattr(headers, "get", None)
    if get is None:
        return None
    value = get(name)
    if value is None and isinstance(headers, dict):  # which is case-sensitive
        value = next((found for key, found in headers.items() if _folded(key) == name), None)
    every = getattr(headers, "getall", None)  # aiohttp's `get` gives the first alone
    if value is not None and every is not None:
        value = ",".join(every(name))
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _folded(key: object) -> str | None:
    text = key.decode("ascii", "replace") if isinstance(key, bytes) else key
    return text.lower() if isinstance(text, str) and text.isascii() else None


def _pushback(subject: object) -> Any:
    metadata = getattr(subject, "trailing_metadata", None)
    if not callable(metadata):
        return None
    pairs: Any = metadata() or ()
    found = next((value for key, value in pairs if key == _PUSHBACK), None)
    return found.decode("ascii") if isinstance(found, bytes) else found


def _forbidden(pushback: Any) -> bool | None:
    """Return False if a pushback forbids a retry, else None."""
    if not isinstance(pushback, str):
        return None
    return None if re.fullmatch(_DIGITS, pushback) else False


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
    """Return the number of a text, the longest of a list, or the seconds until a date; None for anything else."""
    items = [item.strip(" \t") for item in text.split(",")]
    if all(re.fullmatch(_NUMBER, item) for item in items):  # `float` takes "nan", "1_0" and digits of any script
        return max(map(float, items))
    then = _date(text)
    if then is None:
        return None
    now = _date(date) or datetime.now(UTC)  # wall clock: a date without a Date header beside it has no other reference
    return (then - now).total_seconds()


def _date(text: Any) -> datetime | None:
    """Return the moment of an HTTP date, None if the value is not one."""
    from email.utils import parsedate_to_datetime

    if not isinstance(text, str) or not text.isascii():
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)  # the form of asctime is UTC
    except (TypeError, ValueError, OverflowError):
        return None
