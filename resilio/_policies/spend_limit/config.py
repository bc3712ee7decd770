"""The options of a spend limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal
from typing import Any

from resilio._options.fields import SharedGateOptions, option, record
from resilio._options.fleets import OnStoreDown, on_store_down
from resilio._options.quantile import Quantile, parse_quantile
from resilio._options.scope import Scope
from resilio._options.validators import fraction, function, reject
from resilio._policies.spend_limit.lease import SPACE
from resilio._policies.spend_limit.money import LARGEST, SMALLEST, Budget, amount_of, billionths, budget
from resilio._policies.spend_limit.periods import Calendar, Income, Pace, length_of, timezone
from resilio._policies.spend_limit.prices import Prices
from resilio._policy.types import Converted

__all__ = ["Reserve", "SpendLimitConfig"]

MOST_COUNTED = 9e9
"""The most in a word of 64 bits, in billionths."""
TEN_YEARS = 10 * 365.25 * 86400.0
Limit = Converted[str, Budget]
Reserve = Converted[str | float | Callable[..., float], Any]
"""What is reserved for a call: "max", a quantile like "p95", an amount, or a function that returns one."""
Zone = Converted[str | tzinfo, tzinfo]


_RESERVE = "a quantile like 'p95', 'max', an amount of money like 0.05, or a function that returns one"


def _reserve(name: str, value: object) -> Any:
    if value == "max":
        return value
    if isinstance(value, str) and not value.startswith("p"):
        reject(name, value, _RESERVE)
    if isinstance(value, (str, Quantile)):
        return parse_quantile(name, value, other="an amount of money like 0.05")
    if callable(value):
        return function(name, value, none_ok=False)
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return amount_of(name, value)
    return reject(name, value, _RESERVE, TypeError)


def _prices(name: str, value: object, *, none_ok: bool) -> Prices | None:
    if not (value is None and none_ok) and not isinstance(value, Prices):
        reject(name, value, "Prices, like Prices.load('prices.toml')", TypeError)
    return value


def _burst(name: str, value: object, *, none_ok: bool) -> float | None:
    if value is None and none_ok:
        return None
    amount = float(amount_of(name, value))
    if not SMALLEST <= amount <= LARGEST:
        reject(name, value, f"an amount of money from {SMALLEST:g}")
    return amount


@record
class SpendLimitConfig(SharedGateOptions):
    """The options of a spend limit, checked; :func:`spend_limit` documents each."""

    limit: Limit = option(budget, kw_only=False)
    prices: Prices | None = option(_prices, default=None, eq=id, none_ok=True)
    reserve: Reserve = option(_reserve, default="p95")
    soft: float | None = option(fraction, default=None, none_ok=True)
    timezone: Zone = option(timezone, default="UTC")
    burst: float | None = option(_burst, default=None, none_ok=True)
    on_store_down: OnStoreDown | None = option(on_store_down, default=None, none_ok=True)

    def __attrs_post_init__(self) -> None:
        if self.burst is not None and self.burst > self.limit.amount:
            reject("burst", self.burst, f"at most the {self.limit.amount:g} of {self.limit}")
        if self.reserve == "max" and self.prices is None:
            reject(
                "reserve",
                "max",
                "a quantile, an amount or a function without prices=..., which say what a call can cost",
            )
        most = self.limit.amount if self.burst is None else self.burst
        if isinstance(self.reserve, (int, float, Decimal)) and self.reserve > most:
            reject("reserve", self.reserve, f"at most {most:g}, or every call is rejected")
        if self.scope not in (None, "process"):
            self._check_shared(isinstance(self.scope, Scope) and self.scope.spans_hosts)
        others = set() if self.prices is None else self.prices.currencies() - {self.limit.currency}
        if others:
            reject(
                "prices",
                self.prices,
                f"in {self.limit.currency}, the currency of {self.limit}, alone; one is {min(others)}",
            )

    def _check_shared(self, is_fleets: bool) -> None:
        most = self.most_shared / SPACE if is_fleets else self.most_shared
        if self.limit.amount > most:
            reject("limit", str(self.limit), f"at most {most:,.0f} a {self.limit.period} where processes share it")
        if is_fleets and self.burst is not None:
            reject("burst", self.burst, "None in a fleet, where the whole amount is there when a period begins")

    def income(self) -> Income:
        """Return what comes in by these options."""
        amount = billionths(self.limit.amount)
        if self.burst is None:
            return Calendar(amount, self.limit.period, self.timezone)
        return Pace(amount, self.limit.period, billionths(self.burst))

    @property
    def most_shared(self) -> float:
        """The largest amount that processes can share: a word of 64 bits counts what comes in during ten years."""
        return MOST_COUNTED / (TEN_YEARS / length_of(self.limit.period))

    def stock(self) -> bytes | None:
        """Return what defines the stock, in a form that all processes agree on; None: it is too much to be shared."""
        if self.limit.amount > self.most_shared:
            return None
        return repr(
            (self.limit.amount, self.limit.currency, self.limit.period, self.burst, str(self.timezone))
        ).encode()
