"""
Headers about a rate limit: how much is left, and when it is renewed.

    RateLimit-Remaining, RateLimit-Reset             drafts 0 to 7 of the IETF: seconds
    RateLimit: limit=9, remaining=0, reset=30        drafts 4 to 7
    RateLimit: "name";r=0;t=30                       drafts 8 and later
    X-RateLimit-Remaining, X-RateLimit-Reset         GitHub and others: a time of day, or seconds

Only a limit that is used up says something about the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["until_renewed"]

_PAIRS = (
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-rate-limit-remaining", "x-rate-limit-reset"),
)
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_FIELD = re.compile(rf"(?:^|[;,\s])(?:r|remaining)\s*=\s*({_NUMBER})|(?:^|[;,\s])(?:t|reset)\s*=\s*({_NUMBER})")
_EPOCH = 1e9
"""From this number on a reset is a time of day in seconds, which was this much in 2001."""
_EPOCH_MS = 1e12


def until_renewed(get: Callable[[str], Any], now: Callable[[], float]) -> float | None:
    """
    Return the seconds until a limit that is used up is renewed, the longest of several; None: no header says so.

    Args:
        get: Returns the text of a header by its name in lower case, or anything else if there is none.

        now: Returns the server's present time of day in seconds, for resets that are one.
    """
    return max(_waits(get, now), default=None)


def _waits(get: Callable[[str], Any], now: Callable[[], float]) -> Iterator[float]:
    for remaining, reset in _PAIRS:
        left = _number(get(remaining))
        wait = _number(get(reset)) if left == 0 else None
        if wait is not None:
            yield _seconds(wait, now)
    combined = get("ratelimit")
    if isinstance(combined, str):
        yield from (wait for left, wait in _items(combined) if left == 0)


def _items(text: str) -> Iterator[tuple[float | None, float]]:
    """Yield what is left and the seconds until the reset, for each limit of a combined header."""
    parts = [text] if "remaining" in text else text.split(",")
    for part in parts:
        found = _FIELD.findall(part)
        left = next((float(left) for left, _ in found if left), None)
        wait = next((float(wait) for _, wait in found if wait), None)
        if wait is not None:
            yield left, wait


def _number(text: Any) -> float | None:
    """Return a plain number, else None; of several headers of one name, joined by commas, the first."""
    first = text.split(",", 1)[0].strip() if isinstance(text, str) else ""
    return float(first) if re.fullmatch(_NUMBER, first, re.ASCII) else None


def _seconds(reset: float, now: Callable[[], float]) -> float:
    if reset >= _EPOCH_MS:
        reset /= 1000
    return reset - now() if reset >= _EPOCH else reset
