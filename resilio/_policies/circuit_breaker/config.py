"""
Options of a circuit breaker, and the law that follows from them.

The defaults of the two failure rules are a law of their own: the breaker opens if next to nothing works. A number that
the user sets, even an equal one, is taken literally. So defaults have types of their own, which mark them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, get_args

from resilio._options.fields import NamedFirstOptions, SharedOptions, Window, option, parse_window, record
from resilio._options.validators import (
    choice,
    exceptions,
    fraction,
    function,
    positive_int,
    reject,
    seconds,
    show,
    total_seconds,
)
from resilio._policy.rules import rule
from resilio._policy.types import Converted, Failures, Judged, Seconds, SecondsOrNone, Unjudged

__all__ = ["CircuitBreakerConfig", "Initial"]

Initial = Literal["closed", "forced_open", "forced_closed", "disabled"]
Mode = Literal["window", "probabilistic"]
Span = int | str | timedelta
Spans = Converted[Span | tuple[Span, Span], Window]

MOST_PROBES = 16
MOST_CALLS = 1_000_000
SHORTEST_WINDOW = 0.001
MIN_CALLS = 20
"""
Calls before a rate counts.

In a study at 100 calls a second, a limit of a half opened 57 times a day at 30 % of failures and 26,900 times at 40 %,
with ten calls of a window of 100; with 20 of 200, 75 and 5,300 times.
"""
LONGEST_OPEN = 3600.0


class _Default(float):
    """A number that its type marks as the default, unlike the same number written out by the user."""


class _DefaultCount(int):
    """The same for a count."""


MAX_OPEN_FOR = _Default(3.0)
"""In an outage of 240 s at 100 calls a second 99 calls are sent; its end is noticed within 3 s."""
CONSECUTIVE = _DefaultCount(10)
"""Notices a total failure in .98 s at 10 calls a second (by the rate alone 5.0 s). 30 cost .015 of a storm."""
FAILURE_RATE = _Default(0.9)
"""With a half, four of eight replicas that are down cost nearly all calls: .02 are answered, without a breaker .50."""
THROTTLED_RATE = _Default(0.5)
"""The failure rate from which on the probabilistic mode rejects a share of the calls."""
PROBES = _DefaultCount(1)
"""One success shows that not all calls fail any more."""
PROOF = 2
"""The successful probes that close the breaker if the user has not set their number."""
PROBES_OF_RULES = _DefaultCount(3)
"""The probes if the user has set a failure rule, which may open the breaker while a part of the calls succeeds."""


def _is_default(value: object) -> bool:
    return isinstance(value, (_Default, _DefaultCount))


def _unless_default(validator: Callable[..., Any]) -> Callable[..., Any]:
    """Return a validator that passes a default unchanged: a converted one would count as set by the user."""

    def check(name: str, value: object, **limits: Any) -> Any:
        return value if _is_default(value) else validator(name, value, **limits)

    return check


def _by_origin(value: object) -> tuple[bool, object]:
    """Return a key for comparison: a default follows another law than the same number set by the user."""
    return _is_default(value), value


def _open_time(name: str, value: object) -> Any:
    """Return the open time in seconds; a time beyond an hour is rejected, as it was probably meant in milliseconds."""
    time = seconds(name, value)
    if time > LONGEST_OPEN:
        in_ms = not isinstance(value, str) and total_seconds(value) is None and time / 1000 <= LONGEST_OPEN
        meant = f": did you mean '{time / 1000:g}s'?" if in_ms else ""
        raise ValueError(f"{name} must be at most an hour ({LONGEST_OPEN:g} s), not {show(value)}{meant}")
    return time


def _window(name: str, value: object) -> Window:
    window = parse_window(name, value)
    if window.calls is not None and window.calls > MOST_CALLS:
        reject(name, value, f"at most {MOST_CALLS} calls (each takes a byte)")
    if window.seconds is not None and window.seconds < SHORTEST_WINDOW:
        reject(name, value, f"a time of at least {SHORTEST_WINDOW:g} s")
    return window


@record
class CircuitBreakerConfig(SharedOptions, NamedFirstOptions):
    """
    The options of a circuit breaker, checked; :func:`circuit_breaker` documents each.

    Defaults adapt to the user's options: `min_calls` to a shorter window, `max_open_for` to a longer `open_for`,
    `failure_rate` to the probabilistic mode, `probes` to a failure rule. Other contradictions raise an error, and so
    does a breaker without a rule that opens it.
    """

    failure_rate: float | None = option(_unless_default(fraction), default=FAILURE_RATE, eq=_by_origin, none_ok=True)
    window: Spans = option(_window, default=(200, "60s"), unit="calls, time")
    min_calls: int = option(positive_int, default=MIN_CALLS)
    consecutive: int | None = option(_unless_default(positive_int), default=CONSECUTIVE, eq=_by_origin, none_ok=True)
    slow_call: SecondsOrNone = option(seconds, default=None, none_ok=True)
    slow_rate: float | None = option(fraction, default=0.5, none_ok=True)
    # A blip of 100 ms at 1,000 calls a second has 190 calls rejected; with a second it has 949.
    open_for: Seconds = option(_open_time, default=0.2, unit="seconds")
    max_open_for: Seconds = option(_unless_default(_open_time), default=MAX_OPEN_FOR, unit="seconds")
    probes: int = option(_unless_default(positive_int), default=PROBES, eq=_by_origin, high=MOST_PROBES)
    closing_probes: int | None = option(positive_int, default=None, none_ok=True, high=MOST_PROBES)
    probe_lease: SecondsOrNone = option(seconds, default=None, none_ok=True)
    ramp: SecondsOrNone = option(seconds, default=None, none_ok=True)
    mode: Mode = option(choice, default="window", options=get_args(Mode))
    on: Failures = option(rule, default=Exception)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))
    initial: Initial = option(choice, default="closed", options=get_args(Initial))

    def __attrs_post_init__(self) -> None:
        if _is_default(self.failure_rate):
            rate = THROTTLED_RATE if self.mode == "probabilistic" else FAILURE_RATE
            object.__setattr__(self, "failure_rate", rate)
        if _is_default(self.probes):
            probes = max(PROBES if self.sure else PROBES_OF_RULES, self.closing_probes or 1)
            object.__setattr__(self, "probes", probes)
        if self.closing_probes is not None and self.closing_probes > self.probes:
            reject("closing_probes", self.closing_probes, f"at most probes, which is {self.probes}")
        if self.max_open_for < self.open_for and not _is_default(self.max_open_for):
            reject("max_open_for", self.max_open_for, f"at least open_for, which is {self.open_for:g}")
        calls = self.window.calls
        if calls is not None and self.min_calls > calls and self.min_calls != MIN_CALLS:
            reject("min_calls", self.min_calls, f"at most the calls of the window, which are {calls}")
        if self.failure_rate is None and self.consecutive is None and None in (self.slow_rate, self.slow_call):
            raise ValueError(
                "failure_rate=None and consecutive=None leave no rule that opens the breaker: give one of them, or "
                "slow_call with a slow_rate"
            )

    @property
    def closing(self) -> int:
        """The number of probes that must succeed before the breaker closes."""
        return self.closing_probes or min(self.probes, PROOF)

    @property
    def sure(self) -> bool:
        """True for the default law: the mode is "window", and the user has set neither failure rule."""
        return self.mode == "window" and _is_default(self.failure_rate) and _is_default(self.consecutive)
