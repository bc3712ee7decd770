"""The pool of a standard stack: its servers, each with a breaker of its own in place of one for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from resilio._options.fields import changed
from resilio._options.scope import PROCESS
from resilio._options.validators import reject
from resilio._policies.circuit_breaker.policy import CircuitBreaker, circuit_breaker
from resilio._policy.base import Policy

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.policy import Pool

__all__ = ["Breakers", "breakers_of", "copied", "pool_of_stack", "servers"]

FAILURES = 5
"""The failures in a row that eject a server: those of a pool of its own."""
_RIGHT = "servers, like ['https://a.internal', Endpoint('https://b.internal')], a pool, or None"


def servers(name: str, given: Any) -> Any:
    """Return the option `pool` of a stack: None, a pool as it is, or a tuple of endpoints; URLs become endpoints."""
    if given is None or (isinstance(given, Policy) and given.kind == "pool"):
        return given
    if not isinstance(given, (list, tuple)):
        reject(name, given, _RIGHT, TypeError)
    if not given:
        reject(name, given, _RIGHT)
    from resilio._policies.pool.endpoint import Endpoint, endpoints_of

    return endpoints_of(name, [Endpoint(one) if isinstance(one, str) else one for one in given])


@attrs.frozen(repr=False)
class Breakers:
    """
    A function of an endpoint that returns its circuit breaker; equal to another one with the same options.

    Attributes:
        stack: The name of the stack, after which they are called; None: of a copy, whose breakers have no names.

        options: The options that all of them have.
    """

    stack: str | None
    options: Mapping[str, Any]

    def __call__(self, endpoint: Endpoint) -> CircuitBreaker:
        """Return the breaker of an endpoint, called "payments.circuit_breaker.a"."""
        name = None if self.stack is None else f"{self.stack}.circuit_breaker.{endpoint.name}"
        return circuit_breaker(name, consecutive=FAILURES, **self.options)

    def __repr__(self) -> str:
        return "circuit_breaker"


def pool_of_stack(stack: str, given: Any, on: Any, shared: Mapping[str, Any]) -> Pool:
    """
    Return the pool of a stack: the caller's, or one of these endpoints.

    Args:
        stack: The name of the stack.

        given: The option `pool`, checked.

        on: The stack's rule of failures.

        shared: The options of the stack's gates.
    """
    if isinstance(given, Policy):
        return given  # type: ignore[return-value]
    from resilio._policies.pool.policy import pool

    return pool(f"{stack}.pool", *given, each=Breakers(stack, {"on": on, **shared}), on=on)


def breakers_of(part: Any) -> list[Any]:
    """Return the breakers of a stack's own pool; none of a caller's."""
    own = isinstance(getattr(part.config, "each", None), Breakers)
    return [part[endpoint.name] for endpoint in part.endpoints] if own else []


def copied(config: Any, changes: Mapping[str, Any]) -> Any:
    """Return the options of a copy of a pool: other endpoints, also as URLs, and a stack's breakers anew."""
    each = config.each
    if isinstance(each, Breakers):
        each = Breakers(None, {**each.options, "scope": PROCESS})
    endpoints = {"endpoints": servers("endpoints", changes["endpoints"])} if "endpoints" in changes else {}
    return changed(config, **{"each": each, **changes, **endpoints})
