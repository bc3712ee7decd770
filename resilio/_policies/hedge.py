"""
A hedge starts a second copy of a call that takes long, and uses the first answer.

Why: in a service of many servers a call may meet one that pauses. With 1 % of slow calls, 63 % of pages that make a
hundred calls are slow. When not: calls that must not run twice; a dependency with one server; calls that are slow
because they are large, as then the copy is slow too (the hedge detects this, and stops). It is not a retry, which
follows a failure, nor a timeout.

docs/explanation/hedging-rules.md describes the safeguards. Source: Dean and Barroso, "The Tail at Scale", 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from resilio._failures.outcome import judge_error, judge_value
from resilio._native.strategies import HedgeGate
from resilio._options.arity import check_arity
from resilio._options.fields import NamedOptions, option, record
from resilio._options.validators import exceptions, function, number, positive_int, reject, seconds
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.rules import resolved, rule
from resilio._policy.snapshot import Snapshot
from resilio._policy.types import Converted, Failures, Judged, Seconds, Time, Unjudged
from resilio._support.client_target import instead_of

if TYPE_CHECKING:
    from resilio._policy.decorate import Kind

__all__ = ["Hedge", "HedgeConfig", "HedgeSnapshot", "hedge"]

DelayOf = Callable[..., Time | None]
After = Converted[Time | Sequence[Time] | DelayOf, str | tuple[float, ...] | DelayOf]
Targets = Converted[Callable[..., Any] | Sequence[Callable[..., Any]] | None, tuple[Callable[..., Any], ...]]
MOST_HEDGES = 16


def quantile_of(name: str, value: object) -> float | None:
    """
    Return the share of a quantile like "p95" or "p99.9"; None for a value of another form.

    Args:
        name: The parameter, for the message.

        value: Any value.

    Raises:
        ValueError: A quantile that is not above 0 and below 100.
    """
    if not isinstance(value, str) or value[:1] not in "pP":
        return None
    try:
        share = float(value[1:]) / 100
    except ValueError:
        return None
    if not 0 < share < 1:
        reject(name, value, 'a quantile above "p0" and below "p100"')
    return share


def _after(name: str, value: object) -> Any:
    quantile = quantile_of(name, value)
    if quantile is not None:
        return value
    if isinstance(value, str) and value[:1] in "pP":
        reject(name, value, 'a quantile like "p95"')
    if isinstance(value, (list, tuple)):
        if not 1 <= len(value) <= MOST_HEDGES:
            reject(name, value, f"from 1 to {MOST_HEDGES} times")
        return tuple(seconds(name, delay, zero_ok=True) for delay in value)
    if callable(value):
        return function(name, value, none_ok=False)
    return (seconds(name, value, zero_ok=True, other=', or a quantile like "p95", or a function of the arguments'),)


def _idempotent(name: str, value: object) -> Any:
    if value is True:
        return True
    if value is False:
        reject(name, value, "True, or a function of the arguments: what must not run twice cannot be hedged")
    if not callable(value):
        reject(name, value, "True, or a function of the arguments", TypeError)
    return function(name, value, none_ok=False)


def _targets(name: str, value: object) -> Any:
    if value is None:
        return ()
    targets = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for target in targets:
        if not callable(target):
            reject(name, value, "a function, or a sequence of functions, that take the primary's arguments", TypeError)
    return targets


def _discard(name: str, value: object) -> Any:
    if value is not None and not callable(value):
        reject(name, value, "a function of a result, which may be async, or None", TypeError)
    if value is not None:
        check_arity(name, value, ("result",))
    return value


@record
class HedgeConfig(NamedOptions):
    """The options of a hedge, checked; :func:`hedge` documents each."""

    idempotent: bool | Callable[..., object] = option(_idempotent)
    on: Failures = option(rule, default=Exception)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))
    # Copies can cut the tail behind it; earlier ones double the load of calls that are not slow.
    after: After = option(_after, default="p95", unit="seconds")
    to: Targets = option(_targets, default=None)
    max_hedges: int | None = option(positive_int, default=None, none_ok=True, high=MOST_HEDGES)
    # Before a shared bottleneck, hedges after the p95 without a cap multiply the p99 by 14 to 203.
    max_extra: float = option(number, default=0.05, low=0.0, high=1.0)
    min_delay: Seconds = option(seconds, default=0.001, zero_ok=True)
    max_delay: Seconds = option(seconds, default=60.0)
    discard: Judged | None = option(_discard, default=None)

    def __attrs_post_init__(self) -> None:
        if self.min_delay > self.max_delay:
            reject("min_delay", self.min_delay, f"at most max_delay={self.max_delay:g}")

    @property
    def quantile(self) -> float:
        """The quantile after which a copy starts, as a share; 0: `delays` or `delay_of` apply."""
        return quantile_of("after", self.after) or 0.0

    @property
    def delays(self) -> tuple[float, ...]:
        """The seconds before each copy; none with a quantile or a function."""
        return self.after if isinstance(self.after, tuple) else ()

    @property
    def delay_of(self) -> DelayOf | None:
        """The function of a call's arguments that computes the delay of its copies; None: there is none."""
        return self.after if callable(self.after) else None


@attrs.frozen(kw_only=True)
class HedgeSnapshot(Snapshot):
    """
    A hedge at one moment.

    Attributes:
        delay: Seconds until the first copy starts, now; None while too little has been measured, or if each call has
        its own.

        hedges: Copies started.

        hedge_wins: Copies whose result became that of the call.

        hedges_rejected: Copies that were paid for and then rejected, by the budget shared with retries or by a gate
        inside.

        due: Copies that were due, by their fate: "started", "unmeasured", "failing", "saturated", "losing", "capped".
    """

    delay: float | None
    hedges: int
    hedge_wins: int
    hedges_rejected: int
    due: dict[str, int]


class Hedge(Policy[HedgeConfig]):
    """Copies calls that take long, if copies help; see :func:`hedge`, which makes one."""

    kind = "hedge"
    Config = HedgeConfig
    _gate: HedgeGate

    def __init__(self, config: HedgeConfig, name: str | None = None) -> None:
        """Make a hedge without measurements."""
        super().__init__(HedgeGate(config), config, name)

    def _explained(self) -> str:
        config, now = self._config, self.delay
        known = "unknown yet" if now is None else f"{now:.3g} s now"
        if config.quantile:
            after = f"the {config.after}, {known}"
        elif config.delay_of is not None:
            after = f"a time computed from the arguments, {config.min_delay:g} to {config.max_delay:g} s"
        else:
            after = ", ".join(f"{delay:g} s" for delay in config.delays)
        due = ", ".join(f"{count} {fate}" for fate, count in self._gate.hedge_counters[0].items() if count)
        rules = (
            f"at most {config.max_extra:.0%} of the calls are copied, none while calls fail or queue, or copies lose"
        )
        return f"a copy starts after {after}; {rules}; due so far: {due or 'none'}"

    def reset(self) -> None:
        """Forget the measurements of primaries and copies: no copy starts until there are enough. Counters stay."""
        self._gate.reset()

    def _apply_shared(self, config: HedgeConfig) -> None:
        super()._apply_shared(config)
        on, failed_if = resolved(config, "momentary")  # a momentary failure does not beat an attempt that still runs
        self._gate.judge_error, self._gate.judge_value = judge_error(on, config.ignore), judge_value(failed_if)

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        if kind == "sync":
            instead = instead_of(fn, self.kind, "Make it an async function")
            _reject(fn, f"is not async: its copy would need another thread. {instead}")
        if kind != "coroutine":
            _reject(fn, "gives items, and two streams cannot be made into one. Hedge the call that opens it")

    @property
    def delay(self) -> float | None:
        """Seconds until the first copy starts, now; None while too little is measured, or if computed for each call."""
        return self._gate.delay

    @property
    def after_errors(self) -> int:
        """The number of calls without copies because the function `after` raised or returned no time."""
        return self._gate.after_errors

    def _about(self) -> tuple[str, ...]:
        after = self._config.after
        if callable(after):
            return ("after a computed time",)
        return (f"after {after if isinstance(after, str) else ', '.join(f'{wait:g} s' for wait in after)}",)

    def _snapshot(self, state: str | None, counters: Any) -> HedgeSnapshot:
        due, rejected, wins = self._gate.hedge_counters
        common = attrs.asdict(super()._snapshot(state, counters), recurse=False)
        started = max(0, due["started"] - rejected)
        return HedgeSnapshot(
            **common, delay=self.delay, hedges=started, hedge_wins=wins, hedges_rejected=rejected, due=due
        )


def _reject(fn: Any, why: str) -> NoReturn:
    raise TypeError(f"hedge cannot guard {fn!r}, which {why}")


@makes(HedgeConfig, "@hedge(idempotent=True)")
def hedge(config: HedgeConfig, name: str | None) -> Hedge:
    """
    Return a policy that starts a copy of a call that takes long or fails; the first answer that is no failure wins.

    Args:
        idempotent: True if the call may run twice at the same time, or a predicate of the arguments.
        on: Exceptions that fail an attempt: types, a predicate `exception -> bool | Outcome`, or a preset like "http".
            Other exceptions are answers, and win. Left out: every exception, and in a client's transport a 5xx.
        ignore: Exceptions matched by `on` that are no failures: the same forms.
        failed_if: Results that are failures: a predicate `result -> bool | Outcome`. One wins only if all fail.
        after: Delay of a copy: a quantile of the primary's time ("p95"), seconds, or seconds before each of several.
            Or a function of the call's arguments that returns a time, the same before each copy; None: no copy.
        to: Target of copies: a function or several, with the primary's arguments; None: the function itself.
        max_hedges: Copies of a call at most, 1 to 16; None: as many as `after` has times, or 1.
        max_extra: Copies at most as a share of the calls, measured, 0 to 1.
        min_delay: A quantile or a computed delay is never less than this, in seconds.
        max_delay: A quantile or a computed delay is never more than this, in seconds.
        discard: A function of a result that came too late, to close it; may be async.
        name: What it is called; the same name and options give the same hedge.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(Hedge, name, config)
