"""
Reservations: the amount taken for a call before its cost is known.

A call to a model is any object with `model`, `size` (bytes of the request) and `max_tokens` (of the answer, or None): a
token of text has at least one byte, so `size` bounds those of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import attrs

from resilio._options.quantile import Quantile
from resilio._policies.spend_limit.history import ENOUGH, Learned, Rung, at_quantile
from resilio._policies.spend_limit.money import amount_of, billionths
from resilio._policies.spend_limit.prices import Price, Prices

__all__ = ["Amount", "ModelCall", "Quote", "Rising", "call_in", "quote", "rounded_up"]

UNBOUNDED_OUTPUT = 4096
"""The tokens of an answer that are reserved if neither the request nor the price bounds them."""


@runtime_checkable
class ModelCall(Protocol):
    """A call to a model, as the function that reserves sees it."""

    @property
    def model(self) -> str | None:
        """The name of the model."""
        ...

    @property
    def size(self) -> int:
        """The bytes of the request."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of the answer; None: not limited."""
        ...


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
class Quote:
    """
    The reservation for a call, in billionths.

    Attributes:
        reserved: The amount.

        most: The most that the call can cost; None: that is unknown.

        call: The call to a model; None for other calls.

        rising: What to reserve as it grows older; None: the same.
    """

    reserved: int
    most: int | None
    call: ModelCall | None = None
    rising: Rising | None = None


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
    reserve: Any, prices: Prices | None, learned: Learned, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Quote | None:
    """
    Return what to reserve; None if the call has no price, or no bound where the most that it can cost is reserved.

    Args:
        reserve: "max", a quantile, an amount, or a function of the call's arguments that returns one.

        prices: The prices of models; None: calls are none to models.

        learned: What the latest calls have used.

        args: The positional arguments of the call.

        kwargs: Those by keyword.

    Raises:
        Exception: Any that the function raises; or it has returned no amount.
    """
    if args and isinstance(args[0], Amount):
        return Quote(args[0].reserved, None)
    call = None if prices is None else call_in(args)
    if call is not None and call.model is None:  # of a list, a file: it costs nothing
        return Quote(0, 0, call)
    price = _price_of(call, prices)
    if call is not None and price is None:
        return None
    most = _most(call, price)
    if isinstance(reserve, Quantile):
        return _by_history(reserve, call, price, learned, most)
    if reserve == "max":
        return None if most is None else Quote(most, most, call)
    amount = reserve(*args, **kwargs) if callable(reserve) else reserve
    return Quote(billionths(amount_of("the result of reserve", amount)), most, call)


def _price_of(call: ModelCall | None, prices: Prices | None) -> Price | None:
    return None if call is None or prices is None else prices.get(call.model)


def _most(call: ModelCall | None, price: Price | None) -> int | None:
    if call is None or price is None:
        return None
    bounds = [bound for bound in (call.max_tokens, price.max_output) if bound is not None]
    if not bounds and price.output:
        return None
    return rounded_up(price.at_most(call.size, min(bounds, default=0)))


def _by_history(
    law: Quantile, call: ModelCall | None, price: Price | None, learned: Learned, most: int | None
) -> Quote:
    history = learned.of(None if call is None else call.model)
    if call is None or price is None:
        if not history.amounts:
            return Quote(0, most, call)
        rising = Rising(history.amounts.rungs(law), 0.0, None, law.times, most)
    elif len(history.outputs) < ENOUGH:
        return Quote(
            most if most is not None else rounded_up(price.at_most(call.size / 4, UNBOUNDED_OUTPUT)), most, call
        )
    else:
        asked = at_quantile(history.inputs, law) * call.size
        rising = Rising(history.outputs.rungs(law), asked, price, law.times, most)
    return Quote(rising.amount(0), most, call, rising)


Reserve = Callable[..., float]
