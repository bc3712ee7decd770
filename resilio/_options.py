"""How a configuration record is declared: its fields check themselves, and a window says how far back to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from resilio._config import parse_duration, positive_int, refuse, seconds, total_seconds

__all__ = ["OFF", "Window", "option", "parse_window"]

OFF = "none"
"""What stands for None where options come as text."""


@attrs.frozen
class Window:
    """How far back a policy looks: the last `calls` calls, the last `seconds` seconds, or both."""

    calls: int | None = None
    seconds: float | None = None


def parse_window(name: str, value: object) -> Window:
    """
    Return what a window means: an int is calls, "30s" or a timedelta is time, a pair is both.

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
            refuse(name, value, "a pair of calls and time, like (200, '60s')")
        first, second = (_half_window(name, half, value) for half in value)
        if (first.calls is None) == (second.calls is None):
            refuse(name, value, "a pair of one count of calls and one time, like (200, '60s')")
        return Window(first.calls or second.calls, first.seconds or second.seconds)
    return _half_window(name, value, value)


def _half_window(name: str, half: object, whole: object) -> Window:
    if isinstance(half, str):
        return Window(seconds=parse_duration(name, half))
    if total_seconds(half) is not None:
        return Window(seconds=seconds(name, half))
    if isinstance(half, bool) or not isinstance(half, int):
        right = "an int (calls), a time like '30s' or a timedelta, or a pair of both; a float would be ambiguous"
        refuse(name, whole, right, TypeError)
    return Window(calls=positive_int(name, half))


def _checked_window(name: str, window: Window) -> Window:
    positive_int(name, window.calls, none_ok=True)
    seconds(name, window.seconds, none_ok=True)
    if window.calls is None and window.seconds is None:
        refuse(name, window, "a window of calls, of time, or of both")
    return window


def option(
    validator: Callable[..., Any],
    *,
    default: Any = attrs.NOTHING,
    kw_only: bool | None = None,
    eq: Any = None,
    **limits: Any,
) -> Any:
    """
    Declare a field of an `attrs.frozen` configuration record that `validator` checks under the field's own name.

    Args:
        validator: One of the functions here, called as `validator(field_name, value, **limits)`.

        default: The default, in the form that users would write.

        kw_only: Whether the record takes it by keyword only; None: as the record says.

        eq: As `attrs.field` takes it: a function of the value by whose result records are compared.

        limits: Passed on to the validator.
    """

    def convert(value: Any, field: attrs.Attribute[Any]) -> Any:
        if limits.get("none_ok") and isinstance(value, str) and value == OFF:  # TOML and the environment have no None
            value = None
        return validator(field.name, value, **limits)

    converter = attrs.Converter(convert, takes_field=True)
    return attrs.field(default=default, kw_only=kw_only, eq=eq, converter=converter, metadata={"check": convert})
