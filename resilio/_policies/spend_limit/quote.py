"""
Reservations: the amount taken for a call before its cost is known.

A call to a model is any object with `model`, `size` (bytes of the request) and `max_tokens` (of the answer, or None): a
token of text has at least one byte, so `size` bounds those of the request. One that goes to a pool has its `endpoints`
too, of which each may answer by a model of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from resilio._options.quantile import Quantile
from resilio._policies.spend_limit.history import ENOUGH, History, Learned, Rung, at_quantile
from resilio._policies.spend_limit.money import amount_of, billionths
from resilio._policies.spend_limit.offers import ModelCall, Offer, offers_of
from resilio._policies.spend_limit.prices import Price, Prices

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["Amount", "Quote", "Rising", "call_in", "quote", "rounded_up"]

_ONE: Mapping[Any, Any] = MappingProxyType({})
"""The parts of a reservation for one model."""
UNBOUNDED_OUTPUT = 4096
"""The tokens of an answer that are reserved if neither the request nor the price bounds them."""


@attrs.frozen
class Rising:
    """
    What to reserve for a call as it grows older.

    Attributes:
        rungs: What calls have used that have lasted for a time.

        asked: Tokens of the request.

        price: The price of the model; None: what calls have used is an amount.

        times: The multiple of the quantile that is reserved.

        most: The most that the call can cost; None: that is unknown.
    """

    rungs: tuple[Rung, ...]
    asked: float
    price: Price | None
    times: float
    most: int | None

    def amount(self, i: int) -> int:
        """Return what to reserve from the age of a rung on."""
        value = self.rungs[i].value
        if value is None:
            return self.amount(i - 1) if self.most is None else self.most
        amount = value if self.price is None else rounded_up(self.price.at_most(self.asked, value))
        found = round(amount * self.times)
        return found if self.most is None else min(found, self.most)


@attrs.frozen
class RisingDearest:
    """Reservation for a call that several models may answer, as it grows older: at each age that of the dearest."""

    rungs: tuple[Rung, ...]
    quotes: tuple[Quote, ...]

    def amount(self, i: int) -> int:
        """Return what to reserve from the age of a rung on."""
        return max(one.at(self.rungs[i].after_ns) if i else one.reserved for one in self.quotes)


@attrs.frozen
class Quote:
    """
    The reservation for a call, in billionths.

    Attributes:
        reserved: The amount.

        most: The most that the call can cost; None: that is unknown.

        call: The call to a model; None for other calls.

        rising: What to reserve as it grows older; None: the same.

        parts: The reservation for each model that may answer, where there are several.
    """

    reserved: int
    most: int | None
    call: ModelCall | None = None
    rising: Rising | RisingDearest | None = None
    parts: Mapping[Offer, Quote] = _ONE

    def at(self, age_ns: int) -> int:
        """Return the reservation at this age."""
        if self.rising is None:
            return self.reserved
        i = max(i for i, rung in enumerate(self.rising.rungs) if i == 0 or rung.after_ns <= age_ns)
        return self.rising.amount(i) if i else self.reserved


@attrs.frozen
class Amount:
    """The only argument of a block that reserves this many billionths."""

    reserved: int


def call_in(args: tuple[Any, ...]) -> ModelCall | None:
    """Return the call to a model among the arguments of a guarded call; None if it is none."""
    first = args[0] if args else None
    return first if isinstance(first, ModelCall) else None


def rounded_up(trillionths: int) -> int:
    """Return an amount in billionths."""
    return -(-trillionths // 1000)


def quote(
    reserve: Any,
    prices: Prices | None,
    currency: str,
    learned: Learned,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    endpoints: tuple[Endpoint, ...] = (),
) -> Quote | None:
    """
    Return what to reserve; None if the call has no price, or no bound where the most that it can cost is reserved.

    If several models may answer, it is the reservation for the dearest.

    Args:
        reserve: "max", a quantile, an amount, or a function of the call's arguments that returns one.

        prices: The prices of models; None: calls are none to models.

        currency: The currency of the amounts.

        learned: What the latest calls have used.

        args: The positional arguments of the call.

        kwargs: Those by keyword.

        endpoints: Those that the limit belongs to; none: any may answer.

    Raises:
        Exception: Any that the function raises; or it has returned no amount.
    """
    if args and isinstance(args[0], Amount):
        return Quote(args[0].reserved, None)
    call = None if prices is None else call_in(args)
    if call is None:
        return _of_no_model(_asked(reserve, args, kwargs), learned)
    if call.model is None:  # of a list, a file: it costs nothing
        return Quote(0, 0, call)
    offers = offers_of(call, endpoints)
    if any(one.price_at(prices, currency) is None for one in offers):
        return None
    reserve = _asked(reserve, args, kwargs)
    found: dict[Offer, Quote | None] = {}
    for offer in offers:
        history = learned.of(offer.model)
        may_answer = (offer, *map(Offer, history.others))  # a name may stand for others, as "auto" does
        priced = {one: price for one in may_answer if (price := one.price_at(prices, currency)) is not None}
        found[offer] = _dearest(call, {one: _of_model(reserve, call, price, history) for one, price in priced.items()})
    return _dearest(call, found)


def _asked(reserve: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return "max" or the quantile as it is, else the amount in billionths."""
    if reserve == "max" or isinstance(reserve, Quantile):
        return reserve
    amount = reserve(*args, **kwargs) if callable(reserve) else reserve
    return billionths(amount_of("the result of reserve", amount))


def _dearest(call: ModelCall, found: Mapping[Offer, Quote | None]) -> Quote | None:
    """Return the reservation for all models that may answer; None if the most that one can cost is unknown."""
    quotes = tuple(one for one in found.values() if one is not None)
    if len(quotes) < len(found):
        return None
    if len(quotes) == 1:
        return quotes[0]
    bounds = [one.most for one in quotes if one.most is not None]
    most = max(bounds) if len(bounds) == len(quotes) else None
    ages = {rung.after_ns for one in quotes if one.rising is not None for rung in one.rising.rungs[1:]}
    rising = RisingDearest(tuple(Rung(age, None) for age in (0, *sorted(ages))), quotes) if ages else None
    parts = dict(zip(found, quotes, strict=True))
    return Quote(max(one.reserved for one in quotes), most, call, rising, parts)


def _of_no_model(reserve: Any, learned: Learned) -> Quote | None:
    if not isinstance(reserve, Quantile):
        return None if reserve == "max" else Quote(reserve, None)
    history = learned.of(None)
    if not history.amounts:
        return Quote(0, None)
    rising = Rising(history.amounts.rungs(reserve), 0.0, None, reserve.times, None)
    return Quote(rising.amount(0), None, None, rising)


def _of_model(reserve: Any, call: ModelCall, price: Price, history: History) -> Quote | None:
    """Return what to reserve for the answer of one model."""
    most = _most(call, price)
    if reserve == "max":
        return None if most is None else Quote(most, most, call)
    if not isinstance(reserve, Quantile):
        return Quote(reserve, most, call)
    if len(history.outputs) < ENOUGH:
        unknown = rounded_up(price.at_most(call.size / 4, UNBOUNDED_OUTPUT))
        return Quote(unknown if most is None else most, most, call)
    asked = at_quantile(history.inputs, reserve) * call.size
    rising = Rising(history.outputs.rungs(reserve), asked, price, reserve.times, most)
    return Quote(rising.amount(0), most, call, rising)


def _most(call: ModelCall, price: Price) -> int | None:
    bounds = [bound for bound in (call.max_tokens, price.max_output) if bound is not None]
    if not bounds and price.output:
        return None
    return rounded_up(price.at_most(call.size, min(bounds, default=0)))
