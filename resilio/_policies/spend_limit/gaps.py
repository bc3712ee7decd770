"""
Calls that a spend limit does not count right: their cost is unknown or guessed. One log line each.

A limit that counts nothing looks like one that is never reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._native import core
from resilio._policies.spend_limit.offers import Answer, Offer
from resilio._policies.spend_limit.prices import is_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilio._policies.spend_limit.prices import Prices

__all__ = ["Gaps"]

ENOUGH = 20
"""Calls without a charge after which the line is written, if no call has had one."""
MOST_MODELS = 64
"""The models that are named; their names come from requests."""


class Gaps:
    """The calls of one spend limit whose cost is unknown. The book's lock protects it; lines follow its release."""

    __slots__ = ("_gate", "_models", "_uncharged")

    def __init__(self, gate: Any) -> None:
        """Begin without calls."""
        self._gate = gate
        self._models: set[str] = set()
        self._uncharged = 0

    def rejected(self, offers: Iterable[Offer], prices: Prices | None, currency: str) -> None:
        """Note a call that was rejected: a model that may answer has no price, or nothing bounds its answer."""
        for offer in offers:
            price = offer.price_at(prices, currency)
            if price is None:
                text = "calls to %r are rejected: the model has no price; add it to prices, or set unknown='dearest'"
                at = f", or give the endpoint {offer.endpoint!r}, which asks for it, a label price=Price(...)"
            elif price.max_output is None and price.output:
                text = "calls to %r are rejected: nothing bounds the answer; set max_tokens in the request, or "
                text, at = text + "max_output in the price", ""
            else:
                continue
            self._say_of(offer.model or "", text + (at if offer.endpoint is not None else ""))

    def used(self, answer: Answer, prices: Prices | None) -> None:
        """Note an answer: its model may have no price, or that of another one."""
        if answer.price is None:
            text = "calls to %r cost tokens, and the limit has no price for the model: each counts as what was "
            remedy = "give the limit prices=..." if prices is None else "add it to the prices of the limit"
            self._say_of(answer.model, f"{text}reserved; {remedy}")
        elif answer.other is None and answer.named and not is_version(answer.named, answer.model):
            text = "answers of %r, which has no price, are charged as those of the model asked for: add it to prices"
            self._say_of(answer.named, text)
        elif answer.other is not None:
            self._priced(Offer(answer.other), prices)

    def admitted(self, offers: Iterable[Offer], prices: Prices | None) -> None:
        """Note a call whose models have prices."""
        for offer in offers:
            self._priced(offer, prices)

    def _priced(self, offer: Offer, prices: Prices | None) -> None:
        """Note a model that is priced as the dearest one, as it has no price of its own."""
        if not offer.model or prices is None or offer.price is not None or offer.model in prices:
            return
        text = "calls to %r are priced as those of the dearest model, as they have no price of their own: add the model"
        self._say_of(offer.model, text + " to prices, or correct its name in the request")

    def uncharged(self) -> None:
        """Note a call that has ended without a charge and a reservation, while no call has ever had a charge."""
        self._uncharged += 1
        if self._uncharged == ENOUGH:
            text = "%d calls have ended and none has stated its cost, so nothing is counted: call "
            text += "resilio.cost.charge(...) in the function, or give the limit prices=... or reserve=..."
            self._say(text, ENOUGH)

    def _say_of(self, model: str, text: str) -> None:
        if model not in self._models and len(self._models) < MOST_MODELS:
            self._models.add(model)
            self._say(text, model)

    def _say(self, text: str, value: object) -> None:
        core.defer(_say, (self._gate, text, value))


def _say(line: tuple[Any, str, object]) -> None:
    gate, text, value = line
    policy = gate.policy
    if policy is not None:
        fields = {"policy": policy.kind, "policy_name": policy.name, "reason": "unpriced"}
        log.say(log.WARNING, f"%s: {text}", log.describe(policy.kind, policy.name), value, fields=fields)
