"""
A circuit breaker stops calls to a dependency that fails, and probes carefully for its recovery.

Why: calls that will fail anyway cost the caller threads, memory and time, and keep the dependency from recovering. When
not: a dependency that is healthy except for one shard or tenant needs a breaker per key; one that is merely busy needs
a limit or a retry budget. It is not a retry, a timeout (a call that hangs is no failure until it ends), or a limit on
concurrency.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import attrs

from resilio import events
from resilio._failures.outcome import Outcome
from resilio._native.gates import BreakerGate
from resilio._options.validators import seconds
from resilio._policies.circuit_breaker.config import CircuitBreakerConfig, Initial
from resilio._policies.server_pauses import is_of_a_sheddable_call, note_as_made, pause_for
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes_or_guards
from resilio._policy.snapshot import Health, Snapshot
from resilio._policy.types import Time

__all__ = ["CircuitBreaker", "CircuitBreakerConfig", "CircuitBreakerSnapshot", "circuit_breaker"]


@attrs.frozen(kw_only=True)
class CircuitBreakerSnapshot(Snapshot):
    """
    A circuit breaker at one moment: all fields are read together under its lock.

    Attributes:
        window_calls: Outcomes in the window now.

        window_failures: Those that were failures.

        window_slow: Those that were slow.

        consecutive: Failures of calls that began after every call that has succeeded.

        open_for: The present or last open time before jitter, in seconds; 0 if it never opened.

        retry_after: Seconds until a probe may pass, >= 0; None unless open, forced open for a time, or half-open after
            a refusal that named a time.

        share: The share of calls that pass now: 1 closed, 0 open, between the two while it throttles or ramps.

        overdue: Calls in flight for so long that the probabilistic mode counts them as failures.

        ramping: True during a ramp.

        probes: Probes in flight.

        probes_succeeded: Probes of this half-open round that succeeded.

        probes_lapsed: Probes, in total, that did not end within their lease.

        stale: Results, in total, that were dropped because the state had changed since the call was admitted.

        generation: The number of state changes, plus one.

        host_state: The state of all workers of the host, None unless that is shared. While it is closed, `state` is
            this worker's own.

        host_window_calls: Outcomes in the windows of all workers of the host, None unless it is shared.

        host_window_failures: Those that were failures.
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
    host_state: str | None
    host_window_calls: int | None
    host_window_failures: int | None

    @property
    def failure_rate(self) -> float | None:
        """The share of failures in the window; None while it is empty."""
        return self.window_failures / self.window_calls if self.window_calls else None

    @property
    def slow_rate(self) -> float | None:
        """The share of slow calls in the window; None while it is empty."""
        return self.window_slow / self.window_calls if self.window_calls else None


class CircuitBreaker(Policy[CircuitBreakerConfig]):
    """A circuit breaker; see :func:`circuit_breaker`, which makes one."""

    kind = "circuit_breaker"
    Config = CircuitBreakerConfig
    REJECTING = frozenset({"open", "forced_open"})
    _gate: BreakerGate
    _doors: Any = ()  # weakly, the limits outside of it in standard stacks, which a refusal pauses

    def __init__(self, config: CircuitBreakerConfig, name: str | None = None) -> None:
        """
        Make the breaker in its initial state.

        Args:
            config: The checked options.

            name: The user's name, or None.
        """
        gate = BreakerGate(config)
        gate.on_trip = _heed
        super().__init__(gate, config, name)

    @property
    def state(self) -> str:
        """closed, open, half_open, forced_open, forced_closed or disabled; open until a call arrives as the probe."""
        return self._gate.state

    def force_open(self, time: Time | None = None) -> None:
        """
        Reject every call from now on, until the state is set anew.

        Args:
            time: The time after which the breaker half-opens, so that the first call probes; None: without limit.
        """
        self._force("forced_open", seconds("time", time, none_ok=True) or 0.0)

    def half_open(self) -> None:
        """Let the next call probe now, whatever the state; what calls in flight find out is dropped."""
        self._force("half_open")

    def force_closed(self) -> None:
        """Admit every call from now on and go on counting, but never open, until the state is set anew."""
        self._force("forced_closed")

    def disable(self) -> None:
        """Admit every call from now on and learn nothing, until the state is set anew."""
        self._force("disabled")

    def reset(self) -> None:
        """Close, and forget all outcomes; those of calls in flight are dropped."""
        self._force("closed")

    def snapshot(self) -> CircuitBreakerSnapshot:
        """Return the state and the counters now, read at one moment."""
        return CircuitBreakerSnapshot(kind=self.kind, name=self.name, sharing=self._sharing(), **self._gate.status())

    def health(self) -> Health:
        """Return if a call made now can be admitted; an open breaker is ready as soon as a probe may pass."""
        now = self.snapshot()
        if now.retry_after == 0.0:  # open, or forced open for a time that is over
            return Health(ready=True)
        return super().health()

    def _explained(self) -> str:
        sharing = None if self._link is None else self._link.sharing()
        if sharing is None or sharing.degraded:  # a note of its own has the reason
            return self._law()
        all_of = "processes of the fleet" if sharing.scope.startswith("fleet:") else "workers of the host"
        return f"{self._law()}; all {all_of} by what they see together"

    def _law(self) -> str:
        config = self._config
        if config.mode == "probabilistic":
            return f"rejects a share of the calls above {config.failure_rate:.0%} of failures; opens where all fail"
        slow = None if config.slow_call is None or config.slow_rate is None else f"{config.slow_rate:.0%} of slow calls"
        row = None if config.consecutive is None else f"{config.consecutive} failures in a row"
        rate = None if config.failure_rate is None else f"{config.failure_rate:.0%} of failures in the window"
        if not config.sure:
            return f"opens at {', or at '.join(rule for rule in (row, rate, slow) if rule)}"
        slow = f"; and at {slow}" if slow else ""
        return (
            f"opens where next to nothing works: at {row}, more where many fail anyway, or at a sure {rate}{slow}; "
            "what fails in part is not rejected"
        )

    def _start_over(self) -> None:
        self.reset()
        if self._config.initial != "closed":
            self._force(cast("Initial", self._config.initial))

    def _force(self, state: Initial | Literal["half_open"], seconds: float = 0.0) -> None:
        self._gate.force(state, seconds)
        events.deliver(self._gate)

    def _state(self) -> str:
        return self._gate.state

    def _numbers_of_all(self) -> dict[str, str | None]:
        return {"state": self._gate.status()["host_state"]}

    def _numbers_of_fleet(self) -> dict[str, str | None]:
        status = self._gate.fleet_status()
        return {"state": None if status is None else status[0]}

    def _about(self) -> tuple[str, ...]:
        now = self.snapshot()
        state = now.state or ""
        return (state, f"retry after {now.retry_after:.3g} s") if now.retry_after and state == "open" else (state,)

    def _apply(self, config: CircuitBreakerConfig) -> None:
        super()._apply(config)
        events.deliver(self._gate)


def _heed(gate: Any, subject: object, outcome: int = Outcome.FAILURE) -> None:
    """Send no probe before the time that a failure or a refusal names; after a refusal, shut the stack's door too."""
    refused = outcome == Outcome.REFUSED
    pause = None if refused and is_of_a_sheddable_call() else pause_for(subject)
    if pause is None:
        return
    gate.extend_open(pause)
    for door in getattr(gate.policy, "_doors", ()) if refused else ():
        door.pause(pause)
        note_as_made(subject, pause)


@makes_or_guards(CircuitBreakerConfig)
def circuit_breaker(config: CircuitBreakerConfig, name: str | None) -> CircuitBreaker:
    """
    Return a breaker that opens when nearly all calls of its dependency fail, and closes when careful probes succeed.

    Args:
        name: What it is called; the same name and options give the same breaker. Or the function, used bare.
        failure_rate: Opens at this share of failures in the window, in (0, 1]; None for never. Left out together with
            `consecutive`, the breaker opens only if next to nothing works: see `consecutive`.
        window: The range of the rates: calls (an int), time ("30s", a timedelta), or a pair of both.
        min_calls: Calls in the window before a rate counts, >= 1.
        consecutive: Opens at this many failures in a row, >= 1, in the order in which calls began; calls in flight
            weigh against it. None for never. Left out together with `failure_rate`, both rules are stricter: the row
            must also have a probability below one in a million at the failure rate before it; the rate must be two
            standard errors above 0.9.
        slow_call: Seconds after which a call is slow, whatever its outcome; None: no call is slow.
        slow_rate: Opens at this share of slow calls in the window, in (0, 1]; None for never.
        open_for: Time that it is open at first, at most an hour; each re-opening adds half, jitter takes up to 10 %.
        max_open_for: The longest time that it is open before the next probe, at most an hour; the default gives way to
            a longer `open_for`.
        probes: Probes of a round, 1 to 16: one until the first success, then the others. Two successes close; with one
            probe, one does; `closing_probes` changes that. The default is 3 if `failure_rate` or `consecutive` is set.
        closing_probes: Probes that must succeed before it closes, 1 to `probes`; None: two, or one if `probes` is 1. In
            the probabilistic mode one closes it. The default of `probes` follows it.
        probe_lease: Seconds until a hung probe's place goes to another; None: from the latencies seen, at most 60.
        ramp: Seconds in which a share rising from 10 % to all is readmitted after closing; None: all at once.
        mode: "window": a rate opens it; "probabilistic": a rate (0.5, if not given) rejects a share of the calls, a
            total failure opens it.
        on: Exceptions that are failures: types, a predicate `exception -> bool | Outcome`, or a preset: "http",
            "model", "database", "redis", "mcp". Left out: every exception, and in a client's transport failing answers
            too.
        ignore: Exceptions matched by `on` that do not count at all: types, or a predicate, called only for those.
        failed_if: Results that are failures: a predicate `result -> bool | Outcome`; None: the preset's rule.
        initial: The state before the first call; later changes of it have no effect.
        enforce: False: reject nothing and count what would have been rejected; 0 to 1: reject this share.
        scope: "host": one state for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` or :func:`resilio.sharing.fleet` returns. None: that of the variable
            `RESILIO_SCOPE`, "process" by default.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(CircuitBreaker, name, config)
