"""
Declarations of options, each once: a record whose fields carry name, type, default, check and unit.

The function that makes the policy takes the same options, by `resilio._policy.factory`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, dataclass_transform

import attrs

from resilio._options import validators
from resilio._options.scope import Scope, checked_scope
from resilio._options.validators import parse_duration, positive_int, reject, seconds, total_seconds

__all__ = [
    "OFF",
    "EnforcedOptions",
    "GateOptions",
    "NamedFirstOptions",
    "NamedOptions",
    "ScopedOptions",
    "SharedGateOptions",
    "SharedOptions",
    "Unset",
    "Window",
    "changed",
    "check_wait",
    "default_of",
    "kept",
    "option",
    "options_of",
    "parse_window",
    "record",
    "several",
]

T = TypeVar("T")

OFF = "none"
"""The text for None, where options come as text."""


class Unset(enum.Enum):
    """Defaults that users do not write; signatures and `help()` show what each of them means."""

    OF_PRESET = "by preset and name"
    OWN_BUDGET = "one for the policy"
    NO_DEFAULT = "no default"

    def __repr__(self) -> str:
        return f"<{self.value}>"


@attrs.frozen
class Window:
    """The outcomes that a policy considers: those of the last `calls` calls, the last `seconds` seconds, or both."""

    calls: int | None = None
    seconds: float | None = None


def parse_window(name: str, value: object) -> Window:
    """
    Return the Window of an option: an int is calls, "30s" or a timedelta is time, a pair is both.

    Args:
        name: The parameter, for the message.

        value: int >= 1, a time as string or timedelta, or a pair of the two in either order.

    Raises:
        TypeError: A float (calls or seconds?), a bool, or anything else.

        ValueError: Out of range, or a pair that is not one of each.
    """
    if isinstance(value, Window):
        return _checked_window(name, value)
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            reject(name, value, "a pair of calls and time, like (200, '60s')")
        first, second = (_half_window(name, half, value) for half in value)
        if (first.calls is None) == (second.calls is None):
            reject(name, value, "a pair of one count of calls and one time, like (200, '60s')")
        return Window(first.calls or second.calls, first.seconds or second.seconds)
    return _half_window(name, value, value)


def _half_window(name: str, half: object, whole: object) -> Window:
    if isinstance(half, str):
        return Window(seconds=parse_duration(name, half))
    if total_seconds(half) is not None:
        return Window(seconds=seconds(name, half))
    if isinstance(half, bool) or not isinstance(half, int):
        right = "an int (calls), a time like '30s' or a timedelta, or a pair of both; a float would be ambiguous"
        reject(name, whole, right, TypeError)
    return Window(calls=positive_int(name, half))


def _checked_window(name: str, window: Window) -> Window:
    positive_int(name, window.calls, none_ok=True)
    seconds(name, window.seconds, none_ok=True)
    if window.calls is None and window.seconds is None:
        reject(name, window, "a window of calls, of time, or of both")
    return window


def option(
    check: Callable[..., Any],
    *,
    default: Any = attrs.NOTHING,
    kw_only: bool | None = None,
    eq: Any = None,
    unit: str | None = None,
    takes_function: bool = False,
    **limits: Any,
) -> Any:
    """
    Declare an option: a field of a record that `check` checks under the field's own name.

    Args:
        check: One of the functions of `validators.py` or their like, called as `check(field_name, value, **limits)`.

        default: The default, in the form that users would write.

        kw_only: True if it is taken by keyword only; None: as in the record.

        eq: As for `attrs.field`: a function of the value, whose result is compared.

        unit: Its unit, for the docs; None: the unit of the check.

        takes_function: True for a positional option that may be a function: beside other options it is not guarded.

        limits: Passed on to the check.
    """
    none_ok = limits.get("none_ok", False)

    def convert(value: Any, field: attrs.Attribute[Any]) -> Any:
        if none_ok and isinstance(value, str) and value == OFF:  # TOML and the environment have no None
            value = None
        return check(field.name, value, **limits)

    converter = attrs.Converter(convert, takes_field=True)
    about = {"check": convert, "unit": unit or _UNITS.get(check, ""), "takes_function": takes_function}
    return attrs.field(default=default, kw_only=kw_only, eq=eq, converter=converter, metadata=about)


_UNITS: dict[Callable[..., Any], str] = {seconds: "seconds"}


def several(check: Callable[..., Any], *, init: Literal[False] = False, default: Any = attrs.NOTHING) -> Any:  # noqa: ARG001
    """Declare an option of any number of positional arguments; type checkers infer that from `init`."""
    declared = option(check, default=default)
    declared.metadata["several"] = True
    return declared


def kept(*, init: Literal[False] = False, factory: Callable[[], Any], eq: bool = True) -> Any:  # noqa: ARG001
    """Declare a field that is no option and that users do not set; type checkers infer that from `init`."""
    return attrs.field(factory=factory, eq=eq, metadata={"kept": True})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, several, kept))
def record(cls: type[T]) -> type[T]:
    """Make a class whose fields are options a record: frozen, checked, compared by value."""
    return attrs.frozen(kw_only=True, field_transformer=_own_first)(cls)


def _own_first(cls: type[Any], fields: list[Any]) -> list[Any]:  # noqa: ARG001
    """Sort a record's own options before the inherited ones that all gates share."""
    return sorted(fields, key=lambda field: bool(field.inherited))


@record
class NamedOptions:
    """Options of a policy that may have a name; the name identifies a policy, so it is no part of the record."""

    if TYPE_CHECKING:
        name: str | None = option(validators.policy_name, default=None)


@record
class NamedFirstOptions(NamedOptions):
    """As `NamedOptions`, where the name is the first argument."""

    if TYPE_CHECKING:
        name: str | None = option(validators.policy_name, default=None, kw_only=False)


@record
class EnforcedOptions:
    """Options of policies that may be enforced for a share of the calls."""

    enforce: float = option(validators.enforce, default=True)


@record
class GateOptions(EnforcedOptions, NamedOptions):
    """Options of a gate."""


@record
class ScopedOptions:
    """Options of policies whose state may be shared with other processes."""

    scope: Literal["process", "host"] | Scope | None = option(checked_scope, default=None, none_ok=True)


@record
class SharedOptions(EnforcedOptions):
    """Options of policies that may be enforced for a share of the calls, and shared with other processes."""

    scope: Literal["process", "host"] | Scope | None = option(checked_scope, default=None, none_ok=True)


@record
class SharedGateOptions(SharedOptions, NamedOptions):
    """Options of a gate whose state may be shared with other processes."""


def default_of(config: type[Any], name: str) -> Any:
    """Return the default of another record's option, for one that follows it."""
    return getattr(attrs.fields(config), name).default


def changed(config: T, **changes: Any) -> T:
    """Return a copy of this record with some changes, checked."""
    return cast("T", attrs.evolve(cast("Any", config), **changes))


def options_of(config: type[Any]) -> list[attrs.Attribute[Any]]:
    """Return the fields of a record that are options."""
    return [field for field in attrs.fields(config) if "kept" not in field.metadata]


def check_wait(config: Any) -> None:
    """Raise an error for a queue without a longest wait, and for a wait without a queue."""
    if config.max_queued and config.max_wait is None:
        reject("max_wait", None, f"how long, in seconds, each of max_queued={config.max_queued} calls may wait")
    if config.max_wait and not config.max_queued:
        reject("max_wait", config.max_wait, "0 or left out, unless max_queued says how many calls may wait")
