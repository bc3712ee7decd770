"""
The option `on` of every policy: types of exceptions, a predicate, or a preset by its name.

A name or a :class:`resilio.presets.Preset` judges exceptions and results, and has a part for each kind of policy. A
breaker gets the rule for failures, a retry the rule for failures that may be over at the next attempt. All policies
resolve it here.

Without `on` the pipeline's rule applies: every exception around a function, the client's own rule in a client.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilio._options.validators import exceptions, meant, show

if TYPE_CHECKING:
    from resilio.presets import Part, Preset

__all__ = ["ClientRule", "client_rule", "is_preset", "is_preset_name", "resolved", "rule"]


class ClientRule(enum.IntEnum):
    """The rule by which a gate judges in a client's pipeline; `rs_rule` of gate.h."""

    OWN = 0
    FAILING = 1
    DROPS = 2
    DOUBT = 3
    PLACED = 4


def is_preset(value: object) -> bool:
    """Return True if the checked option `on` is a preset."""
    return type(value).__name__ == "Preset" and type(value).__module__ == "resilio.presets"


def is_preset_name(value: str) -> bool:
    """Return True if a preset has this name."""
    from resilio import presets

    return value in presets.ALL


def rule(name: str, value: object) -> Any:
    """
    Return the option `on`, checked: a tuple of exception types, a predicate as it is, or a preset.

    Args:
        name: The parameter, for the message.

        value: The user's value: exception types, a predicate, a preset's name or a Preset.

    Raises:
        TypeError: Anything else.

        ValueError: A name that no preset has.
    """
    if isinstance(value, str):
        return _named(name, value)
    return value if is_preset(value) else exceptions(name, value, presets_ok=True)


def _named(name: str, value: str) -> Preset:
    from resilio import presets

    if not is_preset_name(value):
        known = ", ".join(repr(one) for one in presets.ALL)
        raise ValueError(
            f"{name} must be one of {known}, or exception types, not {show(value)}{meant(value, presets.ALL)}"
        )
    return presets.ALL[value]


def resolved(config: Any, part: Part = "failing") -> tuple[Any, Callable[[Any], object] | None]:
    """
    Return the rules of a policy's `on` and `failed_if`: types or a predicate for exceptions, and for results or None.

    The policy's own `failed_if` replaces a preset's rule for results.

    Args:
        config: The policy's checked options.

        part: The part of a preset that this policy uses.
    """
    on: Any = getattr(config, "on", (Exception,))
    failed_if = getattr(config, "failed_if", None)
    if not is_preset(on):
        return on, failed_if
    errors, results = on.part(part)
    return errors, results if failed_if is None else failed_if


def client_rule(config: Any, default: Any, asked: ClientRule = ClientRule.FAILING) -> ClientRule:
    """
    Return the rule by which a policy judges in a client's pipeline: its own if the user has set one.

    Args:
        config: The policy's checked options.

        default: The default of its `on`.

        asked: The rule to use otherwise.
    """
    given = getattr(config, "on", default) != default or getattr(config, "failed_if", None) is not None
    return ClientRule.OWN if given else asked
