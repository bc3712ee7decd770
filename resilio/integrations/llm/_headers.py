"""Rate limits in response headers: the amount left, and the time until it is renewed."""

from __future__ import annotations

from collections.abc import Mapping

from resilio._failures.server_advice import UNTIL, rows
from resilio._failures.wire_times import READERS, epoch_of, number

__all__ = ["Left", "left_of"]

Left = dict[str, tuple[float | None, float | None]]
"""By unit: the amount left, and the seconds until the limit is renewed; None: not in the headers."""

_LIMITS = tuple(row for row in rows("header", UNTIL) if row.of)
_MOST_TOKENS = 1e9
_MOST_SECONDS = 86_400.0


def left_of(headers: Mapping[str, str], provider: str) -> Left:
    """
    Return the limits in a provider's headers; invalid values are skipped, and times of more than a day.

    Args:
        headers: Headers of a response. Times of day count only beside their `date`: so only the server's clock counts.

        provider: "openai" or "anthropic".
    """
    left: Left = {}
    date = epoch_of(headers.get("date"))
    for row in _LIMITS:
        if provider not in row.who.lower():
            continue
        count, seconds = number(headers.get(row.left)), None
        if date is not None or row.unit != "RFC 3339":
            seconds = READERS[row.unit](headers.get(row.name), lambda: date or 0.0)
        count, seconds = _bounded(count, _MOST_TOKENS), _bounded(seconds, _MOST_SECONDS)
        if count is not None or seconds is not None:
            left[row.of] = count, seconds
    return left


def _bounded(value: float | None, most: float) -> float | None:
    return None if value is None or value > most else max(value, 0.0)
