"""
Rate limits in tokens: the reservation of a call, its real usage, and the remaining tokens that the provider reports.

A limit reserves the estimate when it admits a call, so that concurrent calls cannot count on the same tokens. The
answer's `usage` corrects it. A call that the provider answered with an error costs nothing. A call that broke off, was
cancelled or timed out keeps its reservation, because providers charge for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from resilio._composition.keyed import Keyed
from resilio._composition.pipeline import Pipeline
from resilio._context import variables
from resilio._options.validators import choice
from resilio._policies.pool.chosen import endpoint_of
from resilio._policies.pool.policy import Pool
from resilio._policies.rate_limit.policy import RateLimit
from resilio._policies.rate_limit.rate import Rate, tokens
from resilio.integrations.llm._call import ModelCall

if TYPE_CHECKING:
    from resilio._policy.base import Policy
    from resilio.integrations.llm._headers import Left

__all__ = ["UNITS", "TokenCost", "limits_for", "may_limit", "nothing_spent", "observe", "settle", "token_rate"]

UNITS = ("input_tokens", "output_tokens", "tokens")


@attrs.frozen
class TokenCost:
    """
    Cost of a call to a model: its estimate, capped at the burst, so that a full bucket admits any call.

    Attributes:
        unit: "tokens", "input_tokens" or "output_tokens".

        most: The burst, in tokens.
    """

    unit: str
    most: float

    def __call__(self, call: Any) -> float:
        """Return the tokens to reserve; 0 if the argument is not a call to a model."""
        estimate = call.estimate.get(self.unit, 0.0) if isinstance(call, ModelCall) else 0.0
        return min(float(estimate), self.most)


def token_rate(rate: str, *, unit: str = "tokens", burst: float | None = None) -> Rate:
    """
    Return a rate in tokens for `rate_limit` and `standard`. Calls reserve their estimate; `usage` settles it.

    Args:
        rate: The provider's limit, like "30000/min".

        unit: "tokens" for both directions, "input_tokens" or "output_tokens".

        burst: Most tokens that can be saved up; None: those of a whole period, as providers count.

    Raises:
        TypeError: An option of a wrong type.

        ValueError: An option out of range.
    """
    unit = choice("unit", unit, dict.fromkeys(UNITS))
    most = tokens("burst", burst, positive=True, none_ok=True)
    if most is None:
        most = Rate(rate).amount
    return Rate(rate, unit=unit, cost=TokenCost(unit, most), burst=most)


def limits_for(policy: Policy[Any], call: ModelCall) -> Iterator[RateLimit]:
    """Yield the rate limits that a call passes, including those of its keys and of its endpoint."""
    if isinstance(policy, RateLimit):
        yield policy
    elif isinstance(policy, Pipeline):
        for part in policy.policies:
            yield from limits_for(part, call)
    elif isinstance(policy, Pool):
        endpoint = endpoint_of() or call.exchange.endpoint
        if endpoint is not None and endpoint.name in policy:
            yield from limits_for(policy[endpoint.name], call)
    elif isinstance(policy, Keyed):
        key = policy.config.key
        try:
            yield from limits_for(policy[call if isinstance(key, str) else key(call)], call)
        except Exception:  # noqa: BLE001 - the key function failed: the call went through the shared policy
            yield from limits_for(policy.overflow, call)


def may_limit(policy: Policy[Any]) -> bool:
    """Return True if a policy can have rate limits; a keyed policy may create one for its next key."""
    if isinstance(policy, Pipeline):
        return any(map(may_limit, policy.policies))
    return bool(policy.config.rates) if isinstance(policy, RateLimit) else isinstance(policy, (Keyed, Pool))


def _units(limit: RateLimit) -> dict[str, Rate]:
    units: dict[str, Rate] = {}
    for rate in limit.config.resolved():
        units.setdefault(rate.unit, rate)
    return units


def settle(limits: Iterator[RateLimit], call: ModelCall, usage: Mapping[str, float]) -> None:
    """
    Correct the tokens that a call reserved.

    Args:
        limits: The limits that admitted the call.

        call: The call.

        usage: "input_tokens" and "output_tokens", as far as they are known; an unknown one stays reserved.
    """
    if variables.bypass.get():
        return
    spent = dict(usage)
    if "input_tokens" in spent and "output_tokens" in spent:
        spent["tokens"] = spent["input_tokens"] + spent["output_tokens"]
    for limit in limits:
        for unit, rate in _units(limit).items():
            if unit in spent and isinstance(rate.cost, TokenCost):
                limit._gate.adjust(unit, spent[unit] - rate.cost(call))


def nothing_spent() -> dict[str, float]:
    """Return the usage of a call that the provider answered with an error."""
    return {"input_tokens": 0.0, "output_tokens": 0.0}


def observe(limits: Iterator[RateLimit], left: Left, pause: float | None) -> None:
    """
    Apply the limits that the provider reports.

    Args:
        limits: The limits that admitted the call.

        left: Remaining tokens by unit, from the headers.

        pause: Seconds for which the provider wants no calls; None: no pause.
    """
    for limit in limits:
        units = _units(limit)
        remaining = {unit: count for unit, (count, _) in left.items() if count is not None and unit in units}
        if remaining:
            limit.observe(**remaining)
        if pause is not None:
            limit.pause(pause)
