"""Options by name before they are applied: the argument of `configure`, checked as far as possible."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

import attrs

from resilio._options.suggestions import hint
from resilio._options.validators import policy_name, show
from resilio._registry.kinds import known_options

__all__ = [
    "Remembered",
    "apply",
    "changed",
    "check_later",
    "options_by_name",
    "split",
]


class Remembered:
    """The options that `configure` set for a name, and the kind of the policy that took them; None: none yet."""

    __slots__ = ("kind", "options")

    def __init__(self, options: Mapping[str, Any] = {}, kind: str | None = None) -> None:
        """Keep a copy of the options."""
        self.options = dict(options)
        self.kind = kind

    def copy(self) -> Remembered:
        """Return an equal copy."""
        return Remembered(self.options, self.kind)


def split(name: str, kinds: Collection[str]) -> tuple[str | None, str]:
    """Return kind and name of "circuit_breaker:payments"; the kind is None if the name has none."""
    kind, colon, rest = name.partition(":")
    return (kind, rest) if colon and rest and kind in kinds else (None, name)


def options_by_name(options: object, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """
    Return the argument of `configure` as dicts.

    Args:
        options: `{name: {option: value}}`.

        names: The names of existing policies.

    Raises:
        TypeError: The argument has another form.

        ValueError: A key cannot be a name.
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping of a policy's name to its options, not {show(options)}")
    known = frozenset(names)
    return {_name(name): _options(name, values, known) for name, values in options.items()}


def _name(value: object) -> str:
    return cast("str", policy_name("a policy's name", _str("a policy's name", value)))


def _options(name: str, values: object, names: frozenset[str]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TypeError(f"the options of {name!r} must be a mapping of option to value, not {show(values)}")
    found = {_str(f"an option of {name!r}", option): value for option, value in values.items()}
    for option, value in found.items():
        if isinstance(value, Mapping):
            _reject_table(name, option, names)
    return found


def _reject_table(name: str, option: str, names: frozenset[str]) -> None:
    """Raise a TypeError for a table that is no option's value: TOML makes one of an unquoted name with a dot."""
    dotted = f"{name}.{option}"
    if dotted in names or option not in known_options():
        raise TypeError(f'{name!r} has no table {option!r}: a name with a dot is in quotes in TOML, ["{dotted}"]')


def _str(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {show(value)}")
    return value


def check_later(name: str, values: Mapping[str, Any]) -> None:
    """
    Raise a TypeError for options that no kind has; the rest is checked when the policy is made.

    Raises:
        TypeError: There is no such option.
    """
    known = known_options()
    for option in values:
        if option not in known:
            right = hint(option, known) or f"; known: {', '.join(sorted(known))}"
            raise TypeError(f"{name!r}: no policy has an option {option!r}{right}")


def apply(plan: list[tuple[Any, Any]]) -> None:
    """Apply each policy's configuration: all of them, or none if one raises."""
    done: list[tuple[Any, Any]] = []
    try:
        for policy, config in plan:
            done.append((policy, policy.config))
            policy._swap(config)
    except BaseException:
        for policy, config in reversed(done):
            policy._swap(config)
        raise


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """Return `config` with `values` changed and checked; an option it does not have is rejected by name."""
    if hasattr(config, "changed"):  # it has options beyond its own fields
        return config.changed(values)
    known = {field.name for field in attrs.fields(type(config))}
    for option in values:
        if option not in known:
            raise TypeError(f"no option {option!r}{hint(option, known)}; there are: {', '.join(sorted(known))}")
    return attrs.evolve(config, **values)
