"""
A spend limit lets calls spend at most an amount of money in each period of the calendar, such as "50 USD/day".

Why: calls to models cost money, each another amount, which is known when the call has ended. A limit that counts
afterwards is exceeded by all calls that are under way at once. When not: for the tokens a minute of a provider's quota,
use a rate limit; to keep accounts, use the provider's bill. It is no price list, and makes no invoices.

A call is admitted if its estimate is left, which is reserved. What the call has cost replaces it. So the limit is
exceeded at most by what the calls in flight cost more than was reserved for them (`snapshot().spend.at_risk`), which is
0 with `reserve="max"`. The next period pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from resilio._options.quantile import Quantile
from resilio._policies.spend_limit.account import Part
from resilio._policies.spend_limit.bill import Reservation
from resilio._policies.spend_limit.book import Book
from resilio._policies.spend_limit.config import SpendLimitConfig
from resilio._policies.spend_limit.gaps import Gaps
from resilio._policies.spend_limit.gate import SpendGate
from resilio._policies.spend_limit.levels import Below, Levels, State
from resilio._policies.spend_limit.money import BILLIONTHS, amount_of, billionths
from resilio._policies.spend_limit.quote import Amount
from resilio._policies.spend_limit.snapshot import Spend, SpendLimitSnapshot
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes

__all__ = ["SpendLimit", "SpendLimitConfig", "spend_limit"]

_WITHOUT_STORE = {
    "local": "each host has its share of what was left",
    "open": "all calls pass",
    "closed": "none beyond its lease",
}


class SpendLimit(Policy[SpendLimitConfig]):
    """Money shared by all guarded functions; see :func:`spend_limit`, which makes one."""

    kind = "spend_limit"
    Config = SpendLimitConfig
    _gate: SpendGate

    def __init__(self, config: SpendLimitConfig, name: str | None = None) -> None:
        """Make a limit of which nothing is spent."""
        book = Book(config.income(), config.limit.currency, config.reserve, config.prices)
        gate = SpendGate(book)
        gate.stock, gate.is_fleets = config.stock(), config.burst is None
        self._levels = book.levels = Levels(gate, config.soft)
        book.gaps = Gaps(gate)
        super().__init__(gate, config, name)

    @property
    def costs(self) -> dict[tuple[str, Part], float]:
        """
        The cost of calls in this process, by model and part.

        The parts are "answer", "retry" and "hedge" for attempts that have answered, and "lost" for those that have not.
        Calls to no model have the model "".
        """
        return self._book.all_costs()

    @property
    def state(self) -> State:
        """The state: "normal", "low" from the soft limit on, or "spent"."""
        return self._levels.state

    @property
    def reserve_errors(self) -> int:
        """The number of calls whose function of `reserve` raised or returned no amount; nothing was reserved."""
        return self._book.errors

    @property
    def _book(self) -> Book:
        return self._gate.book

    def reset(self) -> None:
        """Let the whole limit be there, but for what calls in flight have reserved."""
        self._book.reset()

    def spend(self, amount: float) -> None:
        """
        Take an amount that was spent outside of guarded calls, into debt if necessary.

        Args:
            amount: In the currency of the limit, >= 0.
        """
        self._book.spend(billionths(amount_of("amount", amount)))

    def peek(self, /, *args: Any, **kwargs: Any) -> float:
        """
        Return the seconds until a call like this would be admitted; 0.0: now. Changes nothing.

        Infinity: it may cost more than the whole limit, or has no price, so that no wait helps.

        Args:
            args: Positional arguments of the call.

            kwargs: Its keyword arguments.
        """
        return self._book.wait(args, kwargs)

    def reserve(self, amount: float | None = None, *args: Any) -> Reservation:
        """
        Return a block that reserves an amount and gives the bill: `with limit.reserve(0.05) as due: due.charge(0.02)`.

        Args:
            amount: In the currency of the limit, >= 0; None: as for a call with these arguments.

            args: Positional arguments of the call.
        """
        return Reservation(self, args if amount is None else (Amount(billionths(amount_of("amount", amount))),))

    def below(self, share: float, *, until: float | None = None) -> Below:
        """
        Return a condition for a pool's `cheaper`: true once less than this share of the limit is left.

        Args:
            share: A share of the limit, (0, 1).

            until: It stays true until this share is left again, at least `share`; None: `share`.
        """
        return Below(self, share, until)

    def snapshot(self) -> SpendLimitSnapshot:
        """Return the money and the counters now."""
        base = super().snapshot()
        fields = {field.name: getattr(base, field.name) for field in attrs.fields(type(base))}
        return SpendLimitSnapshot(**fields, spend=self.spend_now())

    def spend_now(self) -> Spend:
        """Return the money now."""
        book = self._book
        with book.locked():
            span, used, risk = book.look()
            return Spend(
                currency=self._book.currency,
                limit=book.income.limit / BILLIONTHS,
                used=used / BILLIONTHS,
                reserved=book.held.total / BILLIONTHS,
                at_risk=risk / BILLIONTHS,
                left=max(book.income.limit - used, 0) / BILLIONTHS,
                resets_in=span.resets_in,
                charged=book.charged / BILLIONTHS,
                kept=book.kept / BILLIONTHS,
            )

    def _state(self) -> str | None:
        return self.state

    def _numbers_of_all(self) -> dict[str, dict[str, float]]:
        return {"tokens": {self._book.currency: self.spend_now().left}}

    def _about(self) -> list[str]:
        spend = self.spend_now()
        return [str(self._config.limit), f"{spend.used:.6g} used", str(self._state())]

    def _explained(self) -> str:
        spend = self.spend_now()
        beyond = "0" if self._config.reserve == "max" else "what calls under way cost more than was reserved"
        return (
            f"{spend.used:.6g} of {spend.limit:g} {spend.currency} used, {spend.reserved:.6g} of it reserved; "
            f"exceeded at most by {beyond}, which the next period pays{self._without_prices()}{self._without_store()}"
        )

    def _without_store(self) -> str:
        """Return the way of calls while the store of its fleet is away."""
        fleet = getattr(self._link, "fleet", None)
        if fleet is None and self._config.on_store_down is not None:
            return "; on_store_down has no effect without scope=fleet(...)"
        if fleet is None or fleet.is_alone:
            return ""
        down = self._config.on_store_down or fleet.on_store_down
        return f"; spends leases (fleet {fleet.name}), and while the store is away {_WITHOUT_STORE[down]}"

    def _without_prices(self) -> str:
        """Return what counts without prices: an unguarded client in a function reports nothing by itself."""
        config = self._config
        if config.prices is not None or not isinstance(config.reserve, Quantile):
            return ""
        return "; without prices=... only what functions state by charge(...) counts"

    def _is_new(self) -> bool:
        return self._book.is_new()

    def _checked(self, changes: Mapping[str, Any]) -> SpendLimitConfig:
        config = super()._checked(changes)
        if config.limit.currency != self._book.currency:
            raise ValueError(f"limit must stay in {self._book.currency}, not {config.limit}: make another spend limit")
        return config

    def _redefine(self, config: SpendLimitConfig, different: str) -> bool:
        """Return False for another currency: it counts another thing."""
        return config.limit.currency == self._book.currency and super()._redefine(config, different)

    def _apply(self, config: SpendLimitConfig) -> None:
        before = self._config
        self._book.reserve_by(config.reserve, config.prices)
        self._levels.soft = config.soft
        self._gate.stock, self._gate.is_fleets = config.stock(), config.burst is None
        if (config.limit, config.timezone, config.burst) != (before.limit, before.timezone, before.burst):
            self._book.use(config.income())


@makes(SpendLimitConfig, '@spend_limit("50 USD/day")')
def spend_limit(config: SpendLimitConfig, name: str | None) -> SpendLimit:
    """
    Return a limit of the money that calls spend in each period: reserved before a call, settled after it.

    Args:
        limit: The amount, its currency and the period: "50 USD/day", "1200 EUR/month", "2 USD/hour"; also "minute" and
            "week", which begins on Monday.
        prices: The prices of models, :class:`resilio.cost.Prices`: guarded clients of models reserve and settle by
            them. None: the functions state their cost, by :func:`resilio.cost.charge`.
        reserve: What is reserved for a call before its cost is known. "p95", or another quantile: that of what the
            latest calls of the model have used for such a request; "max": the most that the call can cost, so that the
            limit is never exceeded; an amount; or a function of the call's arguments that returns one.
        soft: The share of the limit, (0, 1), from which on the state is "low": an event and a line in the log. None:
            no such state.
        timezone: The time zone whose midnight begins a day, a week and a month: a name or a tzinfo.
        burst: The most that may be spent at once: money then comes in evenly over the period, and up to this amount is
            saved up. None: the whole amount is there when a period of the calendar begins.
        on_store_down: In a fleet, what calls get while its store is away, once their host's lease is spent: "local":
            this host's share of what was left; "open": all pass; "closed": none does. None: as the fleet was made.
        name: What it is called; the same name and options give the same limit.
        enforce: False: reject nothing and count what would have been rejected; 0 to 1: enforce for this share.
        scope: "host": one state for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns. None: that of the variable
            `RESILIO_SCOPE`, "process" by default.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, prices in another currency, or a name that belongs to another policy.
    """
    return make(SpendLimit, name, config)
