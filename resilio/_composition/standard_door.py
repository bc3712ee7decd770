"""
The door of a standard stack: the rate limit inside its retry, which a refusal shuts for the time that it names.

Without `rates` the limit has none, and is there for that alone. A pool needs no door: it holds the server that refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from resilio._options.scope import PROCESS
from resilio._policies.circuit_breaker.policy import CircuitBreaker
from resilio._policies.rate_limit.policy import RateLimit, RateLimitConfig
from resilio._policy.base import Policy, make
from resilio.presets import Preset, database, redis

__all__ = ["door_of_stack", "join"]

_NAME_NO_TIME = (database, redis)
"""Presets of servers that do not say when to come back: their stacks need no door."""


def door_of_stack(name: str, config: Any, preset: Preset, most: int) -> RateLimit | None:
    """
    Return the rate limit of a stack; None if it has neither rates nor a server that can refuse a call.

    Args:
        name: The name of the stack.

        config: Its options.

        preset: Its rules of failures.

        most: The number of calls that may wait.
    """
    refuses = preset.refused is not None and preset not in _NAME_NO_TIME and config.pool is None
    if not config.rates and not refuses:
        return None
    scope = config.scope if config.rates else PROCESS
    wait = {"max_wait": preset.max_wait, "max_queued": most}
    options: dict[str, Any] = {"rates": config.rates, "scope": scope, "enforce": config.enforce, **wait}
    return make(RateLimit, f"{name}.rate_limit", RateLimitConfig(**options))


def join(parts: Iterable[Policy[Any]]) -> None:
    """Let a refusal that the breaker among these parts has seen shut the door outside of it."""
    door = None
    for part in parts:
        if isinstance(part, RateLimit):
            door = part
        elif isinstance(part, CircuitBreaker) and door is not None:
            part._doors = weakref.WeakSet([*part._doors, door])
