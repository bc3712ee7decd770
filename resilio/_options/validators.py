"""
Validators of all options of all policies.

A validator takes the option's name and the user's value, and returns the value in its one internal form (seconds as
float, a share as float). It accepts that form again, so that `attrs.evolve` on a record checks the changes. Its error
names the parameter, the value and a right one.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

from resilio._options.arity import check_arity
from resilio._support.show import show

__all__ = [
    "ABSURD_SECONDS",
    "choice",
    "cost",
    "enforce",
    "exceptions",
    "flag",
    "fraction",
    "function",
    "meant",
    "number",
    "parse_duration",
    "policy_name",
    "positive_int",
    "reject",
    "seconds",
    "seconds_of_argument",
    "show",
    "total_seconds",
    "weight",
]

ABSURD_SECONDS = 10 * 365.25 * 86400.0
"""Ten years: a longer time is a mistake in the unit (and stays far from the end of int64 nanoseconds)."""

ABSURD_COUNT = 1_000_000_000
SHORTEST_SECONDS = 1e-9
NAME_LENGTH = 200

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]+)\s*"  # compiled at the first use


def reject(name: str, value: object, right: str, error: type[Exception] = ValueError) -> NoReturn:
    """Raise `error` with a message about the right form of `name` and the user's value."""
    raise error(f"{name} must be {right}, not {show(value)}")


def meant(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'failure_rate'?)" for a misspelt name, "" if no known name resembles it."""
    import difflib

    like = difflib.get_close_matches(name, sorted(known), 1)
    return f" (did you mean {like[0]!r}?)" if like else ""


def number(
    name: str, value: object, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """
    Return `value` as a finite float within [low, high].

    Args:
        name: The parameter, for the message.

        value: An int or a float; bool, NaN and infinity are rejected.

        low: The smallest value allowed.

        high: The largest value allowed.

        open_low: True if `low` itself is rejected.

    Raises:
        TypeError: Not a number, or a bool.

        ValueError: NaN, infinite or out of range.
    """
    right = _range(low, high, open_low)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        reject(name, value, right, TypeError)
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or result < low or result > high or (open_low and result == low):
        reject(name, value, right)
    return result


def _range(low: float, high: float, open_low: bool) -> str:
    parts = []
    if low != -math.inf:
        parts.append(f"{'>' if open_low else '>='} {low:g}")
    if high != math.inf:
        parts.append(f"<= {high:g}")
    return "a number " + " and ".join(parts) if parts else "a finite number"


def seconds(
    name: str,
    value: object,
    *,
    zero_ok: bool = False,
    none_ok: bool = False,
    high: float = ABSURD_SECONDS,
    other: str = "",
) -> Any:
    """
    Return a time as float seconds; None stays None where `none_ok`.

    Args:
        name: The parameter, for the message.

        value: Seconds as int or float, a text like "5s" or "200ms", or a timedelta; > 0 (at least a nanosecond), at
            most ten years.

        zero_ok: True if 0 is allowed.

        none_ok: True if None is allowed.

        high: The longest time allowed, in seconds.

        other: The option's other texts, for the message, like ", or a quantile like 'p95'".

    Raises:
        TypeError: Neither a number, a text nor a timedelta, or a bool.

        ValueError: A text without a unit, NaN, infinite, negative, zero without `zero_ok`, or longer than `high`.
    """
    if value is None and none_ok:
        return None
    given: Any = _duration(name, value, other) if isinstance(value, str) else total_seconds(value)
    if given is None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            reject(name, value, _right_time(zero_ok, high), TypeError)
        given = value
    if not 0 <= given <= high or (given < SHORTEST_SECONDS and not (zero_ok and given == 0)):
        reject(name, value, _right_time(zero_ok, high))
    return float(given)


def seconds_of_argument(text: str) -> float:
    """Return the seconds of an argument of a command, like "2", "2.5" or "200ms"; the error is argparse's."""
    from argparse import ArgumentTypeError  # only for commands

    given = f"{text}s" if text.replace(".", "", 1).isdecimal() else text
    try:
        checked: float = seconds("the time", given)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return checked


def total_seconds(value: object) -> float | None:
    """Return the seconds of a timedelta, None for anything else; without datetime imported there is no timedelta."""
    datetime: Any = sys.modules.get("datetime")
    if datetime is None or not isinstance(value, datetime.timedelta):
        return None
    return float(cast("Any", value).total_seconds())


def _right_time(zero_ok: bool, high: float) -> str:
    longest = "ten years" if high == ABSURD_SECONDS else f"{high:g} s"
    return f"a time in seconds, like '5s' or a timedelta, {'>= 0' if zero_ok else '> 0'} and at most {longest}"


def positive_int(
    name: str, value: object, *, zero_ok: bool = False, none_ok: bool = False, high: int = ABSURD_COUNT
) -> Any:
    """
    Return `value` as an int from 1 (or 0) to `high`; None stays None where `none_ok`.

    Raises:
        TypeError: Not an int, or a bool.

        ValueError: Out of range.
    """
    if value is None and none_ok:
        return None
    low = 0 if zero_ok else 1
    right = f"an int from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        reject(name, value, right, TypeError)
    if not low <= value <= high:
        reject(name, value, right)
    return int(value)


def fraction(name: str, value: object, *, zero_ok: bool = False, none_ok: bool = False) -> Any:
    """
    Return a share as a float in (0, 1], or [0, 1] where `zero_ok`; None stays None where `none_ok`.

    Raises:
        TypeError: Not a number, or a bool.

        ValueError: NaN or out of range.
    """
    if value is None and none_ok:
        return None
    return number(name, value, low=0.0, high=1.0, open_low=not zero_ok)


def enforce(name: str, value: object) -> float:
    """Return the share of calls to enforce, 0 to 1: True is 1.0, False is 0.0 (shadow mode)."""
    if isinstance(value, bool):
        return float(value)
    return number(name, value, low=0.0, high=1.0)


def flag(name: str, value: object) -> bool:
    """Return `value`, which must be a bool."""
    if not isinstance(value, bool):
        reject(name, value, "True or False", TypeError)
    return value


def choice(name: str, value: object, options: Iterable[str]) -> str:
    """Return `value`, which must be one of the strings `options`."""
    allowed = tuple(options)
    right = "one of " + ", ".join(repr(option) for option in allowed)
    if not isinstance(value, str):
        reject(name, value, right, TypeError)
    if value not in allowed:
        reject(name, value, right)
    return value


def policy_name(name: str, value: object) -> str | None:
    """Return a policy's name: None, or a printable string of 1 to 200 characters without blanks at its ends."""
    right = f"None or a printable string of 1 to {NAME_LENGTH} characters, without blanks at its ends"
    if value is None:
        return None
    if not isinstance(value, str):
        reject(name, value, right, TypeError)
    if not 0 < len(value) <= NAME_LENGTH or value != value.strip() or not value.isprintable():
        reject(name, value, right)
    return value


def parse_duration(name: str, value: str) -> float:
    """
    Return the seconds of "30s", "500ms", "2m", "1.5h"; the units are ns, us, ms, s, m or min, h, d.

    Raises:
        ValueError: No such unit, no number, zero, or more than ten years.
    """
    result = _duration(name, value)
    if not SHORTEST_SECONDS <= result <= ABSURD_SECONDS:
        reject(name, value, "a time > 0 and at most ten years")
    return result


def _duration(name: str, value: str, other: str = "") -> float:
    match = re.fullmatch(_DURATION, value)
    if match is None or match[2] not in _UNITS:
        reject(name, value, f"a time like '30s', '500ms' or '2m' (units: {', '.join(_UNITS)}){other}")
    return float(match[1]) * _UNITS[match[2]]


def function(name: str, value: object, *, none_ok: bool = True, takes: tuple[str, ...] | None = None) -> Any:
    """
    Return `value`, which must be a plain callable (its answer is needed at once), or None where `none_ok`.

    Args:
        name: The parameter, for the message.

        value: The function.

        none_ok: True if None is allowed.

        takes: The names of the arguments that it is called with; None: the arguments of a guarded call.

    Raises:
        TypeError: No function, an async one, or one that does not take these arguments.
    """
    if value is None and none_ok:
        return None
    right = "a function" + (" or None" if none_ok else "")
    if not callable(value) or isinstance(value, type):
        reject(name, value, right, TypeError)
    if _is_async(value):
        reject(name, value, right + " that answers at once (an async function answers later)", TypeError)
    if takes is not None:
        check_arity(name, value, takes)
    return value


def _is_async(value: Callable[..., object]) -> bool:
    import inspect  # not needed until a user passes a function

    call = type(value).__call__  # an object with an async __call__
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate) for candidate in (value, call)
    )


def weight(name: str, value: object, *, high: int = ABSURD_COUNT) -> Any:
    """Return the permits of a bulkhead that a call takes: an int >= 1, or a function of its arguments returning one."""
    if callable(value):
        return function(name, value, none_ok=False)
    return positive_int(name, value, high=high)


def cost(name: str, value: object, *, high: int = ABSURD_COUNT) -> Any:
    """Return the tokens that a call costs: an int >= 0, or a function of its arguments returning one."""
    if callable(value):
        return function(name, value, none_ok=False)
    return positive_int(name, value, zero_ok=True, high=high)


def exceptions(name: str, value: object, *, predicate_ok: bool = True, presets_ok: bool = False) -> Any:
    """
    Return exception types as a tuple, or a predicate over an exception as it is.

    Args:
        name: The parameter, for the message.

        value: An exception type, a tuple of them (or a list, or a set), or a function `exception -> bool | Outcome`.

        predicate_ok: True if a function is allowed.

        presets_ok: True if the name of a preset is allowed too, for the message.

    Raises:
        TypeError: Anything else, an instance of an exception included.
    """
    more = (["a function of the exception"] if predicate_ok else []) + (["a preset like 'http'"] if presets_ok else [])
    right = ", ".join(["an exception type, a tuple of them", *more[:-1], *(f"or {last}" for last in more[-1:])])
    if isinstance(value, type) and issubclass(value, BaseException):
        return (value,)
    if isinstance(value, (tuple, list, set, frozenset)):
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in value):
            reject(name, value, right, TypeError)
        return tuple(value)
    if not predicate_ok or not callable(value) or isinstance(value, type):
        reject(name, value, right, TypeError)
    return function(name, value, none_ok=False, takes=("exception",))
