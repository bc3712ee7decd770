"""
What the option `on` says for every policy: types of exceptions, a predicate, or a preset by its name.

A name or a :class:`resilio.presets.Preset` says it of exceptions and of results, and to each policy that part which it
is about: a breaker hears what is a failure, a retry what may be over at the next attempt. All policies resolve it here.

Where nothing is said, the rule is that of the pipeline: around a function every exception, in a client's the client's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilio._options.validators import exceptions, meant, show

if TYPE_CHECKING:
    from resilio.presets import Part, Preset

__all__ = ["ClientRule", "client_rule", "is_preset", "resolved", "rule"]


class ClientRule(enum.IntEnum):
    """By whose rule a gate judges in a client's pipeline; `rs_rule` of gate.h."""

    OWN = 0
    FAILING = 1
    DROPS = 2
    DOUBT = 3


def is_preset(value: object) -> bool:
    """Tell whether the checked option `on` is a preset."""
    return type(value).__name__ == "Preset" and type(value).__module__ == "resilio.presets"


def rule(name: str, value: object) -> Any:
    """
    Return the option `on`, checked: a tuple of exception types, a predicate as it is, or a preset.

    Args:
        name: The parameter, for the message.

        value: As users write it: a preset's name or a Preset too.

    Raises:
        TypeError: Anything else.

        ValueError: A name that no preset has.
    """
    if isinstance(value, str):
        return _named(name, value)
    return value if is_preset(value) else exceptions(name, value, presets_ok=True)


def _named(name: str, value: str) -> Preset:
    from resilio import presets

    if value not in presets.ALL:
        known = ", ".join(repr(one) for one in presets.ALL)
        raise ValueError(
            f"{name} must be one of {known}, or exception types, not {show(value)}{meant(value, presets.ALL)}"
        )
    return presets.ALL[value]


def resolved(config: Any, part: Part = "failing") -> tuple[Any, Callable[[Any], object] | None]:
    """
    Return what a policy's `on` and `failed_if` come to: types or a predicate of exceptions, and one of results or None.

    A `failed_if` of the policy's own takes the place of what a preset says of results.

    Args:
        config: The policy's checked options.

        part: What the policy wants to know of a preset.
    """
    on: Any = getattr(config, "on", (Exception,))
    failed_if = getattr(config, "failed_if", None)
    if not is_preset(on):
        return on, failed_if
    errors, results = on.part(part)
    return errors, results if failed_if is None else failed_if


def client_rule(config: Any, default: Any, asked: ClientRule = ClientRule.FAILING) -> ClientRule:
    """
    Return by which rule a policy judges in a client's pipeline: its own, if it was given one.

    Args:
        config: Its checked options.

        default: The `on` that it has if none was given.

        asked: What it goes by there otherwise.
    """
    given = getattr(config, "on", default) != default or getattr(config, "failed_if", None) is not None
    return ClientRule.OWN if given else asked
