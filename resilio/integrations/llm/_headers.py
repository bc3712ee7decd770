"""What providers say about their limits in headers: how much is left, and when there is more."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime

__all__ = ["Left", "anthropic_left", "duration", "openai_left"]

Headers = Mapping[str, str]
Left = dict[str, tuple[float | None, float | None]]
"""By unit: how many are left, and in how many seconds the limit is as new; None: not said."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_MOST_TOKENS = 1e9
_MOST_SECONDS = 86_400.0


def duration(text: str | None) -> float | None:
    """
    Return the seconds of "6m0s", "1.5s", "17ms" or "2"; None for what is none of these, or more than a day.

    Args:
        text: A header, or None.
    """
    if text is None or not text.isascii():
        return None
    match = _DURATION.fullmatch(text.strip())
    if match is None or not match[0]:
        return _number(text, _MOST_SECONDS)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return _bounded(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, _MOST_SECONDS)


def _number(text: str | None, most: float) -> float | None:
    """Return a plain decimal; not all that `float` takes: it knows "1_0", "nan" and digits of other scripts."""
    if text is None or _DECIMAL.fullmatch(text.strip(" \t")) is None:
        return None
    return _bounded(float(text), most)


def _bounded(number: float, most: float) -> float | None:
    return number if math.isfinite(number) and 0 <= number <= most else None


def _until(text: str | None, date: str | None) -> float | None:
    """Seconds from the server's own `date` to an RFC 3339 time: two clocks need not agree."""
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
    """Return what `x-ratelimit-remaining-*` and `x-ratelimit-reset-*` say; what makes no sense is passed over."""
    return _left(headers, _OPENAI, duration)


def anthropic_left(headers: Headers) -> Left:
    """Return what `anthropic-ratelimit-*` headers say; what makes no sense is passed over."""
    return _left(headers, _ANTHROPIC, lambda text: _until(text, headers.get("date")))
