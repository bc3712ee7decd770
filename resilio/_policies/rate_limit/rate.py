"""Rates: a number of tokens of a unit in a time, of which each call takes its cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from resilio._options.fields import option
from resilio._options.validators import ABSURD_SECONDS, function, number, reject

__all__ = ["Rate", "cost_of_a_call", "parse_rate", "tokens"]

ABSURD_TOKENS = 1e9
REQUESTS = "requests"
LARGEST_WINDOW = 1000
SMALLEST = 1e-6
"""Tokens are counted in millionths."""

_UNITS = {
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_RATE = rf"\s*({_NUMBER}(?:e[0-9]+)?)\s*/\s*({_NUMBER})?\s*([a-z]+)\s*"  # compiled at the first use
_RIGHT = "a rate like '100/s', '90000/min', '5/2s' or '1000/h'"


def parse_rate(name: str, value: object) -> tuple[float, float]:
    """
    Return the tokens and the seconds of "100/s", "90000/min", "5/2s".

    Raises:
        TypeError: Not a string.

        ValueError: Not of that form, or out of range.
    """
    if not isinstance(value, str):
        reject(name, value, _RIGHT, TypeError)
    match = re.fullmatch(_RATE, value)
    if match is None or match[3] not in _UNITS:
        reject(name, value, f"{_RIGHT} (units: {', '.join(_UNITS)})")
    amount, period = float(match[1]), float(match[2] or 1) * _UNITS[match[3]]
    if not SMALLEST <= amount <= ABSURD_TOKENS or not 1e-9 <= period <= ABSURD_SECONDS:
        reject(name, value, f"{_RIGHT}, with {SMALLEST:g} to {ABSURD_TOKENS:g} tokens in at most ten years")
    return amount, period


def _text(name: str, value: object) -> str:
    parse_rate(name, value)
    return str(value)


def _unit(name: str, value: object) -> str:
    if not isinstance(value, str):
        reject(name, value, "an identifier, like 'requests' or 'tokens'", TypeError)
    if not value.isidentifier():
        reject(name, value, "an identifier, like 'requests' or 'tokens'")
    return value


def tokens(name: str, value: object, *, positive: bool = False, none_ok: bool = False) -> Any:
    """Return a number of tokens as a float, >= 0, or at least a millionth if `positive`."""
    if value is None and none_ok:
        return None
    return number(name, value, low=SMALLEST if positive else 0.0, high=ABSURD_TOKENS)


def cost_of_a_call(name: str, value: object) -> Any:
    """Return the cost of a call: a number of tokens as a float, or a function of its arguments that returns one."""
    return function(name, value, none_ok=False) if callable(value) else tokens(name, value)


@attrs.frozen
class Rate:
    """
    A number of tokens of a unit in a time.

    Attributes:
        rate: Tokens and time: "100/s", "90000/min", "5/2s", "1000/h".

        unit: The unit that is counted: "requests", "tokens", ...; an identifier.

        cost: The cost of a call: a number >= 0, or a function of the call's arguments that returns one. If it raises or
            returns something else, the call costs 1.

        burst: The most tokens that the bucket holds, which may pass at once after a pause. None: for up to 1,000
            requests in more than a second, at most that many in any such period, all at once if need be. For any other
            rate, one second's worth, at least 1 and at least the cost of a call.
    """

    rate: str = option(_text)
    unit: str = option(_unit, default=REQUESTS, kw_only=True)
    cost: float | Callable[..., float] = option(cost_of_a_call, default=1, kw_only=True)
    burst: float | None = option(tokens, default=None, kw_only=True, positive=True, none_ok=True)

    def __attrs_post_init__(self) -> None:
        if self.burst is not None and not callable(self.cost) and self.cost > self.burst:
            reject("burst", self.burst, f"at least cost={self.cost:g}: a call would never be admitted")

    def __str__(self) -> str:
        return self.rate if self.unit == REQUESTS else f"{self.rate} {self.unit}"

    @property
    def amount(self) -> float:
        """Tokens in each period."""
        return parse_rate("rate", self.rate)[0]

    @property
    def period(self) -> float:
        """The period in seconds."""
        return parse_rate("rate", self.rate)[1]

    @property
    def is_window(self) -> bool:
        """
        True if the rate is an exact sliding window, at most `amount` calls in any `period`, and no token bucket.

        That is so for requests without `burst`, of a whole number up to 1,000, and a period longer than a second.
        """
        amount, period = parse_rate("rate", self.rate)
        constant = 0.0 if callable(self.cost) else self.cost
        is_small = amount == int(amount) and 1 <= amount <= LARGEST_WINDOW and constant <= amount
        return self.burst is None and self.unit == REQUESTS and period > 1.0 and is_small

    @property
    def largest_burst(self) -> float:
        """The burst in force: `burst`; else a window's amount; else a second's worth, at least 1 and a call's cost."""
        if self.burst is not None:
            return self.burst
        if self.is_window:
            return self.amount
        constant = 0.0 if callable(self.cost) else self.cost
        return min(max(self.amount / self.period, constant, 1.0), ABSURD_TOKENS)

    def native(self) -> tuple[str, float, int, float, Any, bool]:
        """Return the rate in the form of the gate."""
        period_ns = max(1, round(self.period * 1e9))
        return self.unit, self.amount, period_ns, self.largest_burst, self.cost, self.is_window
