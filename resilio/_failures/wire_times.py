"""
Forms in which servers write a time, each with its reader: a number of seconds, or None for any other form.

A value is foreign input. Only ASCII digits are a number: `float` accepts "nan", "1_0" and digits of other scripts too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["READERS", "Now", "duration", "epoch_of", "number", "timestamp"]

Now = Callable[[], float]
"""Function that returns the server's present time of day, in seconds since 1970."""

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PLAIN = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_FIELD = re.compile(rf"(?:^|[;,\s])(?:r|remaining)\s*=\s*({_PLAIN})|(?:^|[;,\s])(?:t|reset)\s*=\s*({_PLAIN})")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?", re.ASCII)
_EPOCH = 1e9
"""From this number on a reset is a time of day in seconds, which was this much in 2001."""
_EPOCH_MS = 1e12


def number(value: Any) -> float | None:
    """Return a plain number; of several headers of one name, joined by commas, the first."""
    first = value.split(",", 1)[0].strip() if isinstance(value, str) else ""
    return float(first) if re.fullmatch(_PLAIN, first, re.ASCII) else None


def duration(value: Any) -> float | None:
    """Return the seconds of "6m0s", "1.5s", "17ms" or "2"."""
    text = value.strip() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(text)
    if match is None or not match[0]:
        return float(text) if re.fullmatch(_NUMBER, text) else None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def epoch_of(text: Any) -> float | None:
    """Return the moment of an HTTP date; one without a zone, the form of asctime, is UTC."""
    if not isinstance(text, str) or not text.isascii():
        return None
    from email.utils import parsedate_to_datetime  # takes 10 ms, for which the first failure of all must not wait

    try:
        moment = parsedate_to_datetime(text)
        return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def timestamp(text: Any) -> float | None:
    """Return the moment of an RFC 3339 time."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else None
    except (ArithmeticError, LookupError, TypeError, ValueError):  # a date may be out of range in several ways
        return None


def _seconds(value: Any, now: Now) -> float | None:  # noqa: ARG001
    """Return a number, a timedelta, or the longest of a list of numbers."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        items = [item.strip(" \t") for item in value.split(",")]
        return max(map(float, items)) if all(re.fullmatch(_NUMBER, item) for item in items) else None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _milliseconds(value: Any, now: Now) -> float | None:
    found = _seconds(value, now)
    return None if found is None else found * 1e-3


def _until(moment: float | None, now: Now) -> float | None:
    return None if moment is None else moment - now()


def _reset(value: Any, now: Now) -> float | None:
    reset = number(value)
    if reset is None or reset < _EPOCH:
        return reset
    return (reset / 1000 if reset >= _EPOCH_MS else reset) - now()


def _longest_used_up(value: Any, now: Now) -> float | None:  # noqa: ARG001
    """Return the longest reset of those limits of a combined header of which nothing is left."""
    waits = (wait for left, wait in _items(value) if left == 0) if isinstance(value, str) else ()
    return max(waits, default=None)


def _items(text: str) -> Iterator[tuple[float | None, float]]:
    """Yield the rest and the seconds until the reset, for each limit of a combined header."""
    parts = [text] if "remaining" in text else text.split(",")
    for part in parts:
        found = _FIELD.findall(part)
        left = next((float(left) for left, _ in found if left), None)
        wait = next((float(wait) for _, wait in found if wait), None)
        if wait is not None:
            yield left, wait


READERS: Mapping[str, Callable[[Any, Now], float | None]] = {
    "seconds": _seconds,
    "milliseconds": _milliseconds,
    "HTTP date": lambda value, now: _until(epoch_of(value), now),
    "RFC 3339": lambda value, now: _until(timestamp(value), now),
    "seconds, or a time of day": _reset,
    "a duration like 6m0s": lambda value, now: duration(value),  # noqa: ARG005
    "limits with r and t, or remaining and reset": _longest_used_up,
}
"""Readers by the unit of a row; see `server_advice`."""
