"""
Calls that a spend limit does not count right: their cost is unknown or guessed. One log line each.

A limit that counts nothing looks like one that is never reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._native import core

if TYPE_CHECKING:
    from resilio._policies.spend_limit.prices import Prices
    from resilio._policies.spend_limit.quote import ModelCall

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

    def rejected(self, call: ModelCall | None, prices: Prices | None) -> None:
        """Note a call that was rejected: its model has no price, or nothing bounds its answer."""
        if call is None or prices is None:
            return
        model = call.model or ""
        if prices.get(model) is not None:
            text = "calls to %r are rejected: nothing bounds the answer; set max_tokens in the request, or max_output "
            text += "in the price"
        else:
            text = "calls to %r are rejected: the model has no price; add it to prices, or set unknown='dearest'"
        self._say_of(model, text)

    def unpriced(self, model: str) -> None:
        """Note a call that has reported its tokens, while the limit has no price for them."""
        text = "calls to %r cost tokens, and the limit has no price for the model: each counts as what was reserved; "
        self._say_of(model, text + "give the limit prices=..., or add the model to them")

    def priced(self, model: str | None, prices: Prices | None) -> None:
        """Note a call that has a price; without one of its own, its model is priced as the dearest one."""
        if not model or prices is None or model in prices:
            return
        text = "calls to %r are priced as those of the dearest model, as they have no price of their own: add the model"
        self._say_of(model, text + " to prices, or correct its name in the request")

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
