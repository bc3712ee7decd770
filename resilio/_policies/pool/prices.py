"""Levels by price: where a pool calls its cheapest endpoints first, because little money is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from resilio._options.validators import reject
from resilio._policies.pool.endpoint import Endpoint, model_at
from resilio._policies.pool.zones import level_of

__all__ = ["Condition", "checked_condition", "levels_of"]

PRICE = "price"
"""Label of an endpoint: its price, a number or a `resilio.cost.Price`; without it the limit's price of its model."""


@runtime_checkable
class Condition(Protocol):
    """A condition to go by price, such as `spend_limit.below(.2)`: its value, and its followers."""

    def __call__(self) -> bool:
        """Return True while the cheapest endpoints are called first."""
        ...

    def follow(self, follower: Any) -> None:
        """Call `follower.follows()` when the value has changed."""


def checked_condition(name: str, value: object, *, none_ok: bool) -> Condition | None:
    """Return a condition; None if there is none."""
    if value is None and none_ok:
        return None
    if not isinstance(value, Condition):
        reject(name, value, "a condition, like spend_limit(...).below(.2, until=.3)", TypeError)
    return value


def levels_of(endpoints: Sequence[Endpoint], zone: str | None, condition: Condition | None) -> list[int]:
    """Return the levels of the endpoints; while the condition is true the ranks of their prices, the cheapest is 0."""
    if condition is None or not condition():
        return [level_of(one, zone) for one in endpoints]
    prices = [_price(one, condition) for one in endpoints]
    ranks = {price: rank for rank, price in enumerate(sorted(set(prices)))}
    return [ranks[price] for price in prices]


def _price(endpoint: Endpoint, condition: Condition) -> float:
    """
    Return what a token asked and a token answered cost together; an endpoint without a price is the dearest.

    The price is the label of the endpoint, else that of its model, if the condition is one of a limit with prices.
    """
    price: Any = endpoint.labels.get(PRICE)
    price_of = getattr(condition, "price_of", None)
    if price is None and price_of is not None:
        price = price_of(model_at(endpoint, None))
    if isinstance(price, (int, float)):
        return float(price)
    asked, answered = getattr(price, "input", None), getattr(price, "output", None)
    return float("inf") if asked is None or answered is None else float(asked + answered)
