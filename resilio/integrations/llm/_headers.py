"""Rate limits in response headers: the amount left, and the time until it is renewed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime

__all__ = ["Left", "anthropic_left", "duration", "openai_left"]

Headers = Mapping[str, str]
Left = dict[str, tuple[float | None, float | None]]
"""By unit: the amount left, and the seconds until the limit is renewed; None: not in the headers."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_MOST_TOKENS = 1e9
_MOST_SECONDS = 86_400.0


def duration(text: str | None) -> float | None:
    """
    Return the seconds of "6m0s", "1.5s", "17ms" or "2"; None for any other form, or more than a day.

    Args:
        text: The value of a header, or None.
    """
    if text is None or not text.isascii():
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match[0]:
        return _number(text, _MOST_SECONDS)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return _bounded(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, _MOST_SECONDS)


def _number(text: str | None, most: float) -> float | None:
    """Return a plain decimal, else None; `float` would accept "1_0", "nan" and digits of other scripts too."""
    if text is None or _DECIMAL.fullmatch(text.strip(" \t")) is None:
        return None
    return _bounded(float(text), most)


def _bounded(number: float, most: float) -> float | None:
    return number if math.isfinite(number) and 0 <= number <= most else None


def _until(text: str | None, date: str | None) -> float | None:
    """Return seconds from the server's `date` header to an RFC 3339 time, so that only the server's clock counts."""
    if text is None or date is None:
        return None
    from email.utils import parsedate_to_datetime

    try:
        seconds = (datetime.fromisoformat(text) - parsedate_to_datetime(date)).total_seconds()
    except (ArithmeticError, LookupError, TypeError, ValueError):  # a date may be out of range in several ways
        return None
    return _bounded(max(seconds, 0.0), _MOST_SECONDS)


def _left(headers: Headers, names: Mapping[str, tuple[str, str]], read: Callable[[str | None], float | None]) -> Left:
    left: Left = {}
    for unit, (remaining, reset) in names.items():
        count, seconds = _number(headers.get(remaining), _MOST_TOKENS), read(headers.get(reset))
        if count is not None or seconds is not None:
            left[unit] = count, seconds
    return left


_OPENAI = {unit: (f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}") for unit in ("requests", "tokens")}
_ANTHROPIC = {
    unit: (f"anthropic-ratelimit-{name}-remaining", f"anthropic-ratelimit-{name}-reset")
    for unit, name in (
        ("requests", "requests"),
        ("tokens", "tokens"),
        ("input_tokens", "input-tokens"),
        ("output_tokens", "output-tokens"),
    )
}


def openai_left(headers: Headers) -> Left:
    """Return the limits in `x-ratelimit-remaining-*` and `x-ratelimit-reset-*`; invalid values are skipped."""
    return _left(headers, _OPENAI, duration)


def anthropic_left(headers: Headers) -> Left:
    """Return the limits in `anthropic-ratelimit-*` headers; invalid values are skipped."""
    return _left(headers, _ANTHROPIC, lambda text: _until(text, headers.get("date")))
