"""
Amounts of money, and limits like "50 USD/day".

Amounts are integers: billionths of the currency where a limit counts, trillionths where a price is multiplied by
tokens. So sums are exact; `Account` carries the rest of each conversion to the next one.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Literal, cast

import attrs

from resilio._options.validators import reject

__all__ = [
    "BILLIONTHS",
    "TRILLIONTHS",
    "Budget",
    "Period",
    "amount_of",
    "billionths",
    "budget",
    "currency_code",
    "trillionths",
]

BILLIONTHS = 1_000_000_000
TRILLIONTHS = 1_000_000_000_000
LARGEST = 1e9
"""The largest amount: of a larger one the currency or the unit is a mistake."""
SMALLEST = 1e-6

Period = Literal["minute", "hour", "day", "week", "month"]
_PERIODS: dict[str, Period] = {
    **dict.fromkeys(("m", "min", "minute"), "minute"),
    **dict.fromkeys(("h", "hour"), "hour"),
    **dict.fromkeys(("d", "day"), "day"),
    **dict.fromkeys(("w", "week"), "week"),
    "month": "month",
}
_BUDGET = r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Z]{3})\s*/\s*([a-z]+)\s*"  # compiled at the first use
_RIGHT = "an amount, a currency and a period, like '50 USD/day' or '1200 EUR/month'"


def currency_code(name: str, value: object) -> str:
    """Return a currency as three capital letters."""
    right = "a currency as three capital letters, like 'USD'"
    if not isinstance(value, str):
        reject(name, value, right, TypeError)
    if re.fullmatch("[A-Z]{3}", value) is None:
        reject(name, value, right)
    return value


@attrs.frozen
class Budget:
    """
    An amount of money for each period.

    Attributes:
        amount: The amount.

        currency: Its currency, like "USD".

        period: "minute", "hour", "day", "week" or "month".
    """

    amount: float
    currency: str
    period: Period

    def __str__(self) -> str:
        return f"{self.amount:g} {self.currency}/{self.period}"


def budget(name: str, value: object) -> Budget:
    """
    Return the budget of a text like "50 USD/day".

    Raises:
        TypeError: Not a text.

        ValueError: Not of that form, or out of range.
    """
    if isinstance(value, Budget):
        return value
    if not isinstance(value, str):
        reject(name, value, _RIGHT, TypeError)
    match = re.fullmatch(_BUDGET, value)
    if match is None or match[3] not in _PERIODS:
        reject(name, value, f"{_RIGHT} (periods: minute, hour, day, week, month)")
    amount = float(match[1])
    if not SMALLEST <= amount <= LARGEST:
        reject(name, value, f"{_RIGHT}, with an amount from {SMALLEST:g} to {LARGEST:g}")
    return Budget(amount, match[2], _PERIODS[match[3]])


def amount_of(name: str, value: object) -> float | Decimal:
    """Return an amount of money, >= 0, as it was given: an int, a float or a Decimal."""
    right = f"an amount of money from 0 to {LARGEST:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        reject(name, value, right, TypeError)
    if not (isinstance(value, int) or math.isfinite(value)) or not 0 <= value <= LARGEST:  # an int may be too large
        reject(name, value, right)
    return cast("float | Decimal", value)


def billionths(amount: float | Decimal) -> int:
    """Return an amount in billionths, rounded up: a reservation is never too small by its form."""
    return math.ceil(Fraction(str(amount)) * BILLIONTHS)


def trillionths(amount: float | Decimal) -> int:
    """Return an amount in trillionths, rounded to the nearest."""
    return round(Fraction(str(amount)) * TRILLIONTHS)
