"""
A circuit breaker stops calling a dependency that fails, and finds out carefully when it is back.

Why: calls that will fail anyway cost the caller its threads, memory and time, and keep the dependency from recovering.
When not: a dependency that is healthy but for one shard or tenant needs a breaker per key; one that is merely busy
needs a limit or a retry budget. What it is not: a retry, a timeout (a call that hangs is no failure until something
ends it), or a limit on concurrency.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import attrs

from resilio import events
from resilio._backoff import spread
from resilio._config import (
    choice,
    enforce,
    exceptions,
    fraction,
    function,
    parse_duration,
    positive_int,
    refuse,
    seconds,
    show,
    total_seconds,
)
from resilio._misspelt import names_its_options
from resilio._native.breaker import BreakerGate
from resilio._options import Window, option, parse_window
from resilio._policy import Policy, make
from resilio._retry_after import retry_after_of
from resilio._rules import rule
from resilio._snapshot import Health, Snapshot

if TYPE_CHECKING:
    from resilio._rules import Ignored, Rule

__all__ = ["CircuitBreaker", "CircuitBreakerConfig", "CircuitBreakerSnapshot", "circuit_breaker"]

F = TypeVar("F", bound=Callable[..., Any])
Initial = Literal["closed", "forced_open", "forced_closed", "disabled"]
Mode = Literal["window", "probabilistic"]
Span = int | str | timedelta
Time = float | timedelta

RETRY_AFTER_CAP = 60.0
"""The longest time in seconds that one failure's Retry-After keeps a breaker open: the next probe may ask again."""

MOST_PROBES = 16
MOST_CALLS = 1_000_000
SHORTEST_WINDOW = 0.001
MIN_CALLS = 20
LONGEST_OPEN = 3600.0
NEVER = 1e9
"""A rate that nothing reaches, as the gate takes one that is off."""


class _Default(float):
    """A number that is known as the default by its identity: the same number written out by the user is another."""


MAX_OPEN_FOR = _Default(3.0)


def _open_time(name: str, value: object) -> Any:
    """Return how long a breaker is open, in seconds: a longer time than an hour was meant in milliseconds."""
    if value is MAX_OPEN_FOR:
        return value
    time = parse_duration(name, value) if isinstance(value, str) else seconds(name, value)
    if time > LONGEST_OPEN:
        in_ms = not isinstance(value, str) and total_seconds(value) is None and time / 1000 <= LONGEST_OPEN
        meant = f": did you mean '{time / 1000:g}s'?" if in_ms else ""
        raise ValueError(f"{name} must be at most an hour ({LONGEST_OPEN:g} s), not {show(value)}{meant}")
    return time


def _window(name: str, value: object) -> Window:
    window = parse_window(name, value)
    if window.calls is not None and window.calls > MOST_CALLS:
        refuse(name, value, f"at most {MOST_CALLS} calls (each takes a byte)")
    if window.seconds is not None and window.seconds < SHORTEST_WINDOW:
        refuse(name, value, f"a time of at least {SHORTEST_WINDOW:g} s")
    return window


@attrs.frozen(kw_only=True)
class CircuitBreakerConfig:
    """
    The options of a circuit breaker, checked; :func:`circuit_breaker` says what each means.

    Two defaults give way to what the user sets beside them: `min_calls` to a shorter window, `max_open_for` to a longer
    `open_for`. Any other value that contradicts is refused, and so is a breaker without a rule that opens it.
    """

    failure_rate: float | None = option(fraction, default=0.5, none_ok=True)
    window: Window = option(_window, default=(200, "60s"))
    min_calls: int = option(positive_int, default=MIN_CALLS)
    consecutive: int | None = option(positive_int, default=10, none_ok=True)
    slow_call: float | None = option(seconds, default=None, none_ok=True)
    slow_rate: float | None = option(fraction, default=0.5, none_ok=True)
    open_for: float = option(_open_time, default=0.2)
    max_open_for: float = option(_open_time, default=MAX_OPEN_FOR)
    probes: int = option(positive_int, default=3, high=MOST_PROBES)
    probe_lease: float | None = option(seconds, default=None, none_ok=True)
    ramp: float | None = option(seconds, default=None, none_ok=True)
    mode: str = option(choice, default="window", options=("window", "probabilistic"))
    on: Any = option(rule, default=Exception)
    ignore: Any = option(exceptions, default=())
    failed_if: Callable[[Any], object] | None = option(function, default=None, takes=("result",))
    enforce: float = option(enforce, default=True)
    initial: str = option(choice, default="closed", options=("closed", "forced_open", "forced_closed", "disabled"))

    def __attrs_post_init__(self) -> None:
        if self.max_open_for < self.open_for and self.max_open_for is not MAX_OPEN_FOR:
            refuse("max_open_for", self.max_open_for, f"at least open_for, which is {self.open_for:g}")
        calls = self.window.calls
        if calls is not None and self.min_calls > calls and self.min_calls != MIN_CALLS:
            refuse("min_calls", self.min_calls, f"at most the calls of the window, which are {calls}")
        if self.failure_rate is None and self.consecutive is None and None in (self.slow_rate, self.slow_call):
            raise ValueError(
                "failure_rate=None and consecutive=None leave no rule that opens the breaker: give one of them, or "
                "slow_call with a slow_rate"
            )

    def native(self) -> dict[str, Any]:
        """Return the options as the gate takes them: nanoseconds, and 0 for what is off."""
        return {
            "failure_rate": NEVER if self.failure_rate is None else self.failure_rate,
            "slow_rate": NEVER if self.slow_rate is None else self.slow_rate,
            "min_calls": min(self.min_calls, self.window.calls or MOST_CALLS * MOST_CALLS),
            "consecutive": self.consecutive or 0,
            "slow_ns": _ns(self.slow_call),
            "open_ns": _ns(self.open_for),
            "max_open_ns": _ns(max(self.open_for, self.max_open_for)),
            "lease_ns": _ns(self.probe_lease),
            "ramp_ns": _ns(self.ramp),
            "probes": self.probes,
            "window_calls": self.window.calls or 0,
            "window_ns": _ns(self.window.seconds),
            "throttle": self.mode == "probabilistic",
        }


def _ns(time: float | None) -> int:
    return 0 if time is None else max(1, round(time * 1e9))


@attrs.frozen(kw_only=True)
class CircuitBreakerSnapshot(Snapshot):
    """
    A circuit breaker at one moment: everything was read together under its lock.

    Attributes:
        window_calls: Outcomes in the window now.

        window_failures: Those that were failures.

        window_slow: Those that were slow.

        consecutive: Failures of calls that began after every call that has succeeded.

        open_for: The present or last open time before jitter, in seconds; 0 if it never opened.

        retry_after: Seconds until a probe may pass, >= 0; None unless open.

        share: Of the calls made now, those that pass: 1 closed, 0 open, between the two while it throttles or ramps.

        overdue: Calls under way for so long that the probabilistic mode counts them as failures.

        ramping: Whether a ramp is under way.

        probes: Probes under way.

        probes_succeeded: Probes of this half-open round that succeeded.

        probes_lapsed: Probes, ever, that did not end within their lease.

        stale: Results, ever, that were dropped because the state had changed since the call was admitted.

        generation: How often the state has changed, plus one.
    """

    window_calls: int
    window_failures: int
    window_slow: int
    consecutive: int
    open_for: float
    retry_after: float | None
    share: float
    overdue: int
    ramping: bool
    probes: int
    probes_succeeded: int
    probes_lapsed: int
    stale: int
    generation: int

    @property
    def failure_rate(self) -> float | None:
        """The share of failures in the window; None while it is empty."""
        return self.window_failures / self.window_calls if self.window_calls else None

    @property
    def slow_rate(self) -> float | None:
        """The share of slow calls in the window; None while it is empty."""
        return self.window_slow / self.window_calls if self.window_calls else None


class CircuitBreaker(Policy[CircuitBreakerConfig]):
    """A circuit breaker: made by :func:`circuit_breaker`, which says what it does."""

    kind = "circuit_breaker"
    Config = CircuitBreakerConfig
    REFUSING = frozenset({"open", "forced_open"})
    _gate: BreakerGate

    def __init__(self, config: CircuitBreakerConfig, name: str | None = None) -> None:
        """
        Make the breaker in its initial state.

        Args:
            config: The checked options.

            name: The name given, or None.
        """
        gate = BreakerGate(initial=config.initial, **config.native())
        gate.on_trip = _heed_retry_after
        super().__init__(gate, config, name)

    @property
    def state(self) -> str:
        """closed, open, half_open, forced_open, forced_closed or disabled; open until a call comes to probe."""
        return self._gate.state

    def force_open(self) -> None:
        """Refuse every call from now on, until another state is asked for."""
        self._force("forced_open")

    def force_closed(self) -> None:
        """Admit every call from now on and go on counting, but never open, until another state is asked for."""
        self._force("forced_closed")

    def disable(self) -> None:
        """Admit every call from now on and learn nothing, until another state is asked for."""
        self._force("disabled")

    def reset(self) -> None:
        """Close, and forget what was seen; calls under way say nothing about what comes after."""
        self._force("closed")

    def snapshot(self) -> CircuitBreakerSnapshot:
        """Return what the breaker is doing now, read at one moment."""
        return CircuitBreakerSnapshot(kind=self.kind, name=self.name, **self._gate.status())

    def health(self) -> Health:
        """Return whether a call made now has a chance; so it is ready, though open, as soon as a probe may pass."""
        now = self.snapshot()
        if now.state == "open" and not now.retry_after:
            return Health(ready=True)
        return super().health()

    def _start_over(self) -> None:
        self.reset()
        if self._config.initial != "closed":
            self._force(cast("Initial", self._config.initial))

    def _force(self, state: Initial) -> None:
        self._gate.force(state)
        events.deliver(self._gate)

    def _state(self) -> str:
        return self._gate.state

    def _apply(self, config: CircuitBreakerConfig) -> None:
        self._gate.configure(**config.native())
        events.deliver(self._gate)


def _heed_retry_after(gate: Any, subject: object) -> None:
    """What opened the breaker may say for how long: never probe earlier, nor with all others; never trust too far."""
    asked = retry_after_of(subject)
    if asked is not None:
        gate.extend_open(spread(asked, RETRY_AFTER_CAP))


@overload
def circuit_breaker(name: F, /) -> F: ...
@overload
def circuit_breaker(
    name: str | None = None,
    *,
    failure_rate: float | None = ...,
    window: Span | tuple[Span, Span] = ...,
    min_calls: int = ...,
    consecutive: int | None = ...,
    slow_call: Time | None = ...,
    slow_rate: float | None = ...,
    open_for: Time | str = ...,
    max_open_for: Time | str = ...,
    probes: int = ...,
    probe_lease: Time | None = ...,
    ramp: Time | None = ...,
    mode: Mode = ...,
    on: Rule = ...,
    ignore: Ignored = ...,
    failed_if: Callable[[Any], object] | None = ...,
    enforce: float = ...,
    initial: Initial = ...,
) -> CircuitBreaker: ...
@names_its_options
def circuit_breaker(
    name: Any = None,
    *,
    failure_rate: float | None = 0.5,
    window: Span | tuple[Span, Span] = (200, "60s"),
    min_calls: int = MIN_CALLS,
    consecutive: int | None = 10,
    slow_call: Time | None = None,
    slow_rate: float | None = 0.5,
    open_for: Time | str = 0.2,
    max_open_for: Time | str = MAX_OPEN_FOR,
    probes: int = 3,
    probe_lease: Time | None = None,
    ramp: Time | None = None,
    mode: Mode = "window",
    on: Rule = Exception,
    ignore: Ignored = (),
    failed_if: Callable[[Any], object] | None = None,
    enforce: float = True,
    initial: Initial = "closed",
) -> Any:
    """
    Return a breaker that opens when its dependency fails, and closes when careful probes succeed.

    Args:
        name: What it is called; the same name and options give the same breaker. Or the function, used bare.
        failure_rate: Opens at this share of failures in the window, in (0, 1]; None for never.
        window: How far back the rates look: calls (an int), time ("30s", a timedelta), or a pair of both.
        min_calls: Calls in the window before a rate counts, >= 1.
        consecutive: Opens at this many failures in a row, >= 1, by when calls began: those under way weigh against it;
            None for never.
        slow_call: A call that lasts longer, in seconds, is slow, however it ends; None: no call is slow.
        slow_rate: Opens at this share of slow calls in the window, in (0, 1]; None for never.
        open_for: How long it is open at first, at most an hour; each re-opening adds half, jitter takes up to 10 %.
        max_open_for: The longest it is open before the next probe, at most an hour; the default gives way to a longer
            `open_for`.
        probes: Probes of a round, 1 to 16: one until the first success, then the others; two successes close.
        probe_lease: Seconds until a hung probe's place goes to another; None: from the latencies seen, at most 60.
        ramp: Seconds in which a share rising from 10 % to all is readmitted after closing; None: all at once.
        mode: "window": a rate opens it; "probabilistic": a rate refuses a share of the calls, a total failure opens it.
        on: What counts as a failure: exception types, a predicate `exception -> bool | Outcome`, or a preset: "http",
            "model", "database", "redis". Left out: every exception, and in a client's transport what its answers say.
        ignore: What does not count at all: types, or a predicate, which is asked only about what `on` matches.
        failed_if: Which results are failures: a predicate `result -> bool | Outcome`; None: what a preset says.
        enforce: False: refuse nothing and count what would have been refused; 0 to 1: refuse this share.
        initial: The state before the first call; later changes of it have no effect.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    options = locals()  # the first statement: exactly the arguments
    given = options.pop("name")
    if callable(given) or isinstance(given, (staticmethod, classmethod)):
        return make(CircuitBreaker, None, CircuitBreakerConfig())(given)
    return make(CircuitBreaker, given, CircuitBreakerConfig(**options))
