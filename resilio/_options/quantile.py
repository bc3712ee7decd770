"""A quantile of a policy's own latency as an option: "p95", or a multiple of one: "p99*3"."""

from __future__ import annotations

import re

import attrs

from resilio._options.validators import number, reject

__all__ = ["OR_QUANTILE", "Quantile", "is_quantile", "parse_quantile"]

MOST_TIMES = 1000.0
_QUANTILE = r"\s*p([0-9]+(?:\.[0-9]+)?)\s*(?:\*\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*)?"  # compiled at the first use
OR_QUANTILE = ", or a multiple of a quantile like 'p99*3'"
_RIGHT = "a quantile like 'p95', or a multiple of one like 'p99*3'"


@attrs.frozen
class Quantile:
    """A multiple, `times`, of the `q`-quantile."""

    q: float
    times: float = 1.0

    def __str__(self) -> str:
        text = f"p{self.q * 100:g}"
        return text if self.times == 1.0 else f"{text}*{self.times:g}"


def is_quantile(value: object) -> bool:
    """Return True for a Quantile and a text that means one, False for a time like "200ms"."""
    return isinstance(value, Quantile) or (isinstance(value, str) and value.lstrip()[:1] == "p")


def parse_quantile(name: str, value: object, *, other: str = "a time like 2.0 or '2s'") -> Quantile:
    """
    Return the Quantile of a string like "p99" or "p99*3".

    Args:
        name: The parameter, for the message.

        value: A string of that form, or a Quantile, which is checked once more.

        other: The form of the option's other values, for the message.

    Raises:
        TypeError: The value is neither.

        ValueError: Another string, a quantile that is not within (0, 1), or a multiple that is not within (0, 1000].
    """
    if isinstance(value, Quantile):
        q, times = value.q, value.times
    elif isinstance(value, str):
        match = re.fullmatch(_QUANTILE, value)
        if match is None:
            reject(name, value, f"{_RIGHT}, or {other}")
        q, times = float(match[1]) / 100, float(match[2] or 1)
    else:
        reject(name, value, _RIGHT, TypeError)
    if not 0 < q <= 0.9999:
        reject(name, value, f"{_RIGHT}, from p0.01 to p99.99")
    return Quantile(q, number(name, times, low=0, high=MOST_TIMES, open_low=True))
