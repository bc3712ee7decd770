"""
Waits between attempts: exponential with jitter, so that callers that failed together do not return together.

Why full jitter by default: a hundred contending clients need the fewest calls with it
(`benchmarks/efficacy/jitter.py`). When not: a Retry-After of the dependency is obeyed anyway. Backoff is no protection
against overload by many callers: a longer wait only delays their load, while a retry budget or a breaker removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import attrs

from resilio._native.budget import Backoff as NativeBackoff
from resilio._native.budget import spread_ns
from resilio._options.arity import takes_named
from resilio._options.validators import function, number, parse_duration, positive_int, reject, seconds, total_seconds
from resilio._policy.types import Time

__all__ = [
    "Backoff",
    "Schedule",
    "backoff_option",
    "constant",
    "decorrelated_jitter",
    "delay_of",
    "equal_jitter",
    "exponential",
    "full_jitter",
    "spread",
]

BackoffLike: TypeAlias = "Backoff | Schedule | Time | Sequence[Time] | Callable[..., Time]"

_MOST_ATTEMPTS = 2**63 - 1
_MOST_FACTOR = 1e6
_LONGEST = 86400.0
_SHAPES = {
    "constant": ("base",),
    "exponential": ("base", "cap", "factor"),
    "full_jitter": ("base", "cap", "factor"),
    "equal_jitter": ("base", "cap", "factor"),
    "decorrelated_jitter": ("base", "cap"),
}


def _compiled(backoff: Backoff) -> NativeBackoff:
    return NativeBackoff(
        backoff.kind, round(backoff.base * 1e9), round(backoff.cap * 1e9), backoff.factor, backoff.reach
    )


@attrs.frozen(repr=False)
class Backoff:
    """
    The wait after each attempt; comparable by value and picklable. Made by :func:`full_jitter` and its kin.

    Attributes:
        kind: The function that made it.

        base: The first wait in seconds, before jitter.

        cap: The longest wait in seconds.

        factor: The growth of a wait from attempt to attempt.

        reach: The share of the time left that a call waits while nothing has succeeded; see :func:`full_jitter`.

        native: The same for native code.
    """

    kind: str
    base: float
    cap: float
    factor: float
    reach: float = 0.0
    native: NativeBackoff = attrs.field(init=False, eq=False, default=attrs.Factory(_compiled, takes_self=True))

    def __call__(self, attempt: int, previous: Time = 0.0, random: Callable[[], float] | None = None) -> float:
        """
        Return the seconds to wait after an attempt.

        Args:
            attempt: The attempt's number, from 1, however large.

            previous: The wait before this one in seconds; 0 if there was none.

            random: Source of randomness: a function that returns numbers in [0, 1), like `random.Random().random`;
                None: resilio's own source, which `resilio.testing.seeded` makes repeatable.
        """
        checked = positive_int("attempt", attempt, high=_MOST_ATTEMPTS)
        before = round(_wait("previous", previous) * 1e9)
        draw = None if random is None else number("random()", random(), low=0.0, high=1.0)
        return self.native.delay_ns(checked, before, draw) / 1e9

    def __repr__(self) -> str:
        if self.kind == "constant":
            return f"constant({self.base!r})"
        return f"{self.kind}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names())})"

    def _names(self) -> tuple[str, ...]:
        return (*_SHAPES[self.kind], "reach") if self.reach else _SHAPES[self.kind]

    def __reduce__(self) -> tuple[Any, ...]:
        return globals()[self.kind], tuple(getattr(self, name) for name in self._names())


@attrs.frozen(repr=False)
class Schedule:
    """A sequence of waits in seconds; the last one repeats."""

    delays: tuple[float, ...]

    def __call__(self, attempt: int, previous: Time = 0.0, random: Callable[[], float] | None = None) -> float:  # noqa: ARG002
        """Return the seconds to wait after an attempt, which counts from 1; other arguments are ignored."""
        return self.delays[min(attempt, len(self.delays)) - 1]

    def __repr__(self) -> str:
        return repr(list(self.delays))


def _grown(kind: str, base: Time, cap: Time, factor: float, reach: float = 0.0) -> Backoff:
    first = seconds("base", base)
    longest = seconds("cap", cap, high=_LONGEST)
    if first > longest:
        reject("base", base, f"at most cap={longest:g}")
    return Backoff(kind, first, longest, number("factor", factor, low=1.0, high=_MOST_FACTOR), reach)


def full_jitter(base: Time = 0.1, cap: Time = 20.0, factor: float = 2.0, reach: float = 0.0) -> Backoff:
    """
    Wait anywhere from 0 to base, then to base * factor, and so on, up to cap: the fewest calls under contention.

    Args:
        base: Seconds, > 0; the mean first wait is half of it.

        cap: Seconds, at least `base`, at most a day.

        factor: The growth of the range from attempt to attempt, 1 to 1e6.

        reach: A share of the time left until the deadline, 0 to 1. From its second retry on, a call waits half to all
            of that share, at most `cap`, while nothing has succeeded since the call began. So the attempts are not
            used up at once while a dependency is away. 0: never.

    Raises:
        TypeError: A wrong type; the message names it and the value.

        ValueError: Out of range.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return _grown("full_jitter", base, cap, factor, number("reach", reach, low=0.0, high=1.0))


def equal_jitter(base: Time = 0.1, cap: Time = 20.0, factor: float = 2.0) -> Backoff:
    """
    Wait from half the time of :func:`exponential` up to all of it.

    Args and raises: as for :func:`full_jitter`.
    """
    return _grown("equal_jitter", base, cap, factor)


def decorrelated_jitter(base: Time = 0.1, cap: Time = 20.0) -> Backoff:
    """
    Wait anywhere from base to three times the wait before, up to cap.

    Args and raises: as for :func:`full_jitter`.
    """
    return _grown("decorrelated_jitter", base, cap, 3.0)


def exponential(base: Time = 0.1, cap: Time = 20.0, factor: float = 2.0) -> Backoff:
    """
    Wait base, then base * factor, and so on, up to cap: callers that failed together return together.

    Args and raises: as for :func:`full_jitter`.
    """
    return _grown("exponential", base, cap, factor)


def constant(seconds: Time) -> Backoff:
    """
    Wait the same time after every attempt.

    Args:
        seconds: >= 0, at most a day.

    Raises:
        TypeError: A wrong type; the message names it and the value.

        ValueError: Out of range.
    """
    return _constant("seconds", seconds)


def _constant(name: str, value: Any) -> Backoff:
    wait = seconds(name, value, zero_ok=True, high=_LONGEST)
    return Backoff("constant", wait, wait, 1.0)


_FACTORIES = (constant, decorrelated_jitter, equal_jitter, exponential, full_jitter)


def backoff_option(name: str, value: object) -> Any:
    """
    Return a backoff as a :class:`Backoff`, a :class:`Schedule`, or the user's function as it is.

    Args:
        name: The parameter, for the message.

        value: One of the above; a time (seconds, "200ms", a timedelta) for a constant wait; a sequence of
            them, whose last repeats; or a function of the attempt, counted from 1, that returns a time. If it has a
            parameter `error`, it gets the exception there, or the failed result.

    Raises:
        TypeError: Anything else, such as `full_jitter` instead of `full_jitter()`.

        ValueError: A wait that is negative, NaN, infinite or longer than a day, or an empty sequence.
    """
    right = "a backoff like full_jitter(), seconds, a sequence of seconds, or a function of the attempt"
    if isinstance(value, (Backoff, Schedule)):
        return value
    if isinstance(value, (list, tuple)):
        if not value:
            reject(name, value, right)
        return Schedule(tuple(seconds(name, wait, zero_ok=True, high=_LONGEST) for wait in value))
    if any(value is factory for factory in _FACTORIES):
        reject(name, value, f"called: {cast('Any', value).__name__}(...)", TypeError)
    if callable(value):
        return _function(name, value)
    if isinstance(value, bool) or (not isinstance(value, (int, float, str)) and total_seconds(value) is None):
        reject(name, value, right, TypeError)
    return _constant(name, value)


def _function(name: str, value: Any) -> Any:
    """Return the user's function, checked: it takes the attempt, and its error if it has a parameter of that name."""
    takes = ("attempt", "error=") if takes_named(value, "error") else ("attempt",)
    return function(name, value, none_ok=False, takes=takes)


def delay_of(backoff: Any, attempt: int, previous: float = 0.0, error: object = None) -> float:
    """
    Return the seconds to wait after an attempt.

    Args:
        backoff: The result of :func:`backoff_option`: a Backoff, a Schedule, or the user's function.

        attempt: The attempt's number, from 1.

        previous: The wait before this one in seconds, 0 if there was none.

        error: The exception that the attempt raised, or its failed result; None if unknown.

    Raises:
        TypeError: The user's function did not return a time.

        ValueError: It returned a negative time or one longer than a day. Its own exceptions pass.
    """
    if isinstance(backoff, (Backoff, Schedule)):
        return backoff(attempt, previous)
    wait = backoff(attempt, error=error) if takes_named(backoff, "error") else backoff(attempt)
    return _wait(f"backoff({attempt})", wait)


def spread(asked: float, most: float) -> float:
    """
    Return the seconds to pause for a callee's Retry-After: at least that time, and at random up to twice as long.

    So callers that received the same Retry-After come back one by one.

    Args:
        asked: The seconds of the Retry-After, >= 0; more than `most` counts as `most`.

        most: The longest pause in seconds.
    """
    wait = min(asked, most)
    return spread_ns(round(wait * 1e9), round((most - wait) * 1e9)) / 1e9


def _wait(name: str, value: Any) -> float:
    """Check a computed wait, which may be arbitrarily short, unlike an option."""
    given = parse_duration(name, value) if isinstance(value, str) else total_seconds(value)
    return number(name, value if given is None else given, low=0.0, high=_LONGEST)
