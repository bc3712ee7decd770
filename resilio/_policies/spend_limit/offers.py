"""
Models that may answer a call: one by itself, or those of the endpoints of its pool.

An endpoint's label `model` is its own name of a model, or a mapping of the names that callers use to its own. Its label
`price`, if it is a :class:`Price`, is what that model costs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from resilio._policies.pool.endpoint import Endpoint, model_at
from resilio._policies.spend_limit.prices import Price, Prices, is_version

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NO_OFFER", "Answer", "ModelCall", "Offer", "answer_of", "offer_at", "offers_of"]


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
class Offer:
    """
    A model that may answer, as the request to it names it.

    Attributes:
        model: The name; None: no model is asked.

        price: The price at its endpoint; None: that of the limit.

        endpoint: The name of the endpoint, for messages; None without one.
    """

    model: str | None = None
    price: Price | None = None
    endpoint: str | None = attrs.field(default=None, eq=False)

    def price_at(self, prices: Prices | None, currency: str) -> Price | None:
        """Return the price of the model: that of its endpoint, else the limit's; None: it has none."""
        if self.owns_price(currency):
            return self.price
        return None if prices is None else prices.get(self.model)

    def owns_price(self, currency: str) -> bool:
        """Return True if its endpoint has a price of its own in this currency."""
        return self.price is not None and self.price.currency == currency


NO_OFFER = Offer()
"""No model: a call to a function."""


def offer_at(endpoint: Endpoint | None, model: str | None) -> Offer:
    """Return what answers a call for a model at an endpoint; without an endpoint, the model."""
    if endpoint is None:
        return Offer(model)
    price: Any = endpoint.labels.get("price")
    return Offer(model_at(endpoint, model), price if isinstance(price, Price) else None, endpoint.name)


def offers_of(call: ModelCall, own: Sequence[Endpoint]) -> tuple[Offer, ...]:
    """
    Return the models that may answer a call, each once.

    Args:
        call: The call; `endpoints` are those of its pool, if it has one.

        own: The endpoints that the limit belongs to; of a pool with none of them, any may answer.
    """
    endpoints: Sequence[Endpoint] = getattr(call, "endpoints", ())
    endpoints = [one for one in endpoints if one in own] or endpoints
    return tuple(dict.fromkeys(offer_at(one, call.model) for one in endpoints)) or (Offer(call.model),)


@attrs.frozen
class Answer:
    """
    The model that has answered, at one limit.

    Attributes:
        model: Its name: that of the model asked for, if the answer names a version of it or none that has a price.

        price: Its price; None: it has none.

        asked: The name of the model asked for.

        named: The name in the answer; None: it has none.
    """

    model: str
    price: Price | None
    asked: str
    named: str | None

    @property
    def other(self) -> str | None:
        """The name of the model, if it is not the one asked for."""
        return None if self.model == self.asked else self.model


class Priced(Protocol):
    """The book of a limit."""

    currency: str
    prices: Prices | None


def answer_of(named: str | None, asked: Offer, book: Priced) -> Answer:
    """
    Return the model that has answered: it is the one that the answer names.

    An endpoint's own price is that of the model asked for, so it holds for no other one that the limit has a price for.
    An answer without a name, or with one that has no price, is by the model asked for.

    Args:
        named: The name in the answer; None: it has none.

        asked: The model asked for.

        book: The book of the limit.
    """
    model, prices = asked.model or "", book.prices
    is_asked = not named or is_version(named, model)
    own = asked.owns_price(book.currency)
    if named and prices is not None and not (is_asked and (own or named not in prices)):
        found = prices.get(named)
        if found is not None:
            return Answer(model if is_asked else named, found, model, named)
    found = asked.price_at(prices, book.currency)
    return Answer(model if found is not None or not named else named, found, model, named)
