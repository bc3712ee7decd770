"""Affinity of a pool: the place of the key in a call's arguments, and a warning of calls without one."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from resilio._options.call_key import place_of_key
from resilio._policies.pool.chosen import given_to

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["KeyFaults", "place_in_call"]


def place_in_call(parameter: Any, fn: Any) -> tuple[int, bool, Any]:
    """
    Return the position of the key in the arguments of a call, True if it has a default, and that default.

    `pool.call(fn, ...)` passes the endpoint first: the caller's arguments begin at the function's second parameter.
    """
    called = given_to(fn)
    position, has_default, default = place_of_key(fn if called is None else called, parameter, "affinity")
    return position if called is None or position < 0 else position - 1, has_default, default


class KeyFaults:
    """A warning for the first error of each kind of a pool's key function."""

    def __init__(self, pool: Policy[Any]) -> None:
        """Report for a pool."""
        self._pool = weakref.ref(pool)  # the pool's table has this
        self._known: set[type[BaseException]] = set()

    def note(self, error: BaseException) -> None:
        """Log that a call has no key, once for each kind of error."""
        pool = self._pool()
        if pool is None or type(error) in self._known:
            return
        self._known.add(type(error))
        from resilio._events import log

        where = log.describe("pool", pool.name)
        text = "%s: affinity: no key; such calls go to any endpoint"
        log.say(log.WARNING, text, where, fields={"policy": "pool", "policy_name": pool.name}, error=error)
