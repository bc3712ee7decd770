"""
A timeout ends a call that takes too long, so that its caller, its permit and its connection are free again.

Why: without one, a dependency that hangs blocks all its callers forever. When not: the time that a user waits is better
bounded once, by a deadline around the whole request, retries and queues included. A timeout cannot stop code that does
not suspend (nothing in Python can). It is not the callee's own timeout either, whose TimeoutError passes unchanged.

On asyncio the call's task is cancelled once, from the event loop, and the cancellation becomes a CallTimeoutError; the
callee's cleanup is not cancelled again. On trio it is a cancel scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from resilio._native.strategies import TimeoutGate
from resilio._options.fields import NamedOptions, option, record
from resilio._options.quantile import OR_QUANTILE, Quantile, is_quantile, parse_quantile
from resilio._options.validators import flag, function, reject, seconds
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.types import Converted, SecondsOrNone, Time
from resilio._support.client_target import heeds_time, instead_of

if TYPE_CHECKING:
    from resilio._policy.decorate import Kind

__all__ = ["Timeout", "TimeoutConfig", "timeout"]

TimeOf = Callable[..., Time | None]
Total = Converted[Time | TimeOf | None, float | Quantile | TimeOf | None]
_OTHER = f"{OR_QUANTILE}, or a function of the arguments"


def _total(name: str, value: object) -> float | Quantile | TimeOf | None:
    if is_quantile(value):
        return parse_quantile(name, value)
    if value is None or isinstance(value, (int, float, str, timedelta)):
        checked: float | None = seconds(name, value, none_ok=True, other=OR_QUANTILE)
        return checked
    if callable(value):
        computed: TimeOf = function(name, value, none_ok=False)
        return computed
    return reject(name, value, f"a time like 2.0 or '2s'{_OTHER}", TypeError)


@record
class TimeoutConfig(NamedOptions):
    """The options of a timeout, checked; :func:`timeout` documents each."""

    total: Total = option(_total, default=None, kw_only=False, unit="seconds", takes_function=True)
    first: SecondsOrNone = option(seconds, default=None, none_ok=True)
    idle: SecondsOrNone = option(seconds, default=None, none_ok=True)
    floor: SecondsOrNone = option(seconds, default=None, none_ok=True)
    ceiling: SecondsOrNone = option(seconds, default=None, none_ok=True)
    thread: bool = option(flag, default=False)

    def __attrs_post_init__(self) -> None:
        if self.total is None and self.first is None and self.idle is None:
            reject("total", None, "the seconds that a call may take, unless `first` or `idle` is given", TypeError)
        if isinstance(self.total, Quantile) or callable(self.total):
            self._check_bounds()
        elif self.floor is not None or self.ceiling is not None:
            right = "left out, unless `total` is a quantile like 'p99*3', or a function, which they bound"
            name = "floor" if self.ceiling is None else "ceiling"
            reject(name, getattr(self, name), right)

    @property
    def law(self) -> Quantile | None:
        """The law by which `total` is learned; None: it is fixed or computed, or there is none."""
        return self.total if isinstance(self.total, Quantile) else None

    @property
    def time_of(self) -> TimeOf | None:
        """The function of a call's arguments that computes `total`; None: there is none."""
        return self.total if callable(self.total) else None

    def _check_bounds(self) -> None:
        if self.ceiling is None:
            when = "where its function fails" if callable(self.total) else "as long as too few are known"
            reject("ceiling", None, f"the seconds that a call may take {when}", TypeError)
        if self.floor is not None and self.floor > self.ceiling:
            reject("floor", self.floor, f"at most ceiling={self.ceiling}")


class Timeout(Policy[TimeoutConfig]):
    """A time limit for each guarded call; see :func:`timeout`, which makes one."""

    kind = "timeout"
    Config = TimeoutConfig
    _gate: TimeoutGate

    def __init__(self, config: TimeoutConfig, name: str | None = None) -> None:
        """Make a timeout that has learned nothing yet."""
        super().__init__(TimeoutGate(config), config, name)

    def _checked(self, changes: Mapping[str, Any]) -> TimeoutConfig:
        """Check changes; a fixed total drops the bounds of a learned one."""
        total = changes.get("total")
        if total is not None and not is_quantile(total) and not callable(total):
            changes = {"floor": None, "ceiling": None, **changes}
        return super()._checked(changes)

    def _about(self) -> Iterator[str]:
        config = self._config
        if isinstance(config.total, Quantile):
            yield f"{config.total}, {self.seconds:.3g} s now"
        elif callable(config.total):
            yield f"computed, at most {config.ceiling:g} s"
        elif config.total is not None:
            yield f"{config.total:g} s"
        for name in ("first", "idle"):
            if (limit := getattr(config, name)) is not None:
                yield f"{name} {limit:g} s"

    def _explained(self) -> str | None:
        config = self._config
        floor = "" if config.floor is None else f"at least {config.floor:g} s and "
        if callable(config.total):
            return f"computed from the arguments of each call, {floor}at most {config.ceiling:g} s"
        if not isinstance(config.total, Quantile):
            return None if config.total is None else f"fixed, {config.total:g} s"
        law = f"learned, {config.total} of the recent successes, {floor}at most {config.ceiling:g} s"
        return f"{law}; {self.seconds:.3g} s now, from {self.learned_from} calls"

    def reset(self) -> None:
        """Forget the learned times: a call gets the ceiling until enough calls are known. Counters stay."""
        self._gate.reset()

    @property
    def seconds(self) -> float | None:
        """
        The seconds that a call may take now, which change if they are learned. None: only items are limited.

        If a function computes them, the ceiling.
        """
        return self._gate.total

    @property
    def total_errors(self) -> int:
        """The number of calls that had the ceiling because the function raised or returned no time."""
        return self._gate.total_errors

    @property
    def learned_from(self) -> int:
        """The number of calls from which the quantile is computed."""
        return self._gate.learned_from

    @property
    def abandoned(self) -> int:
        """Threads still running a call whose time was up; new calls are rejected while there are 32."""
        return self._gate.abandoned

    def _check_kind(self, kind: Kind, fn: Any) -> None:
        config = self._config
        if kind == "generator":
            _reject(fn, "is a generator that is not async: nothing can stop it. Make it an async generator")
        if kind == "sync" and heeds_time(fn):
            return
        if kind == "sync" and not config.thread:
            usual = "Use the timeout of the client that it calls, timeout(..., thread=True), or an async function"
            _reject(fn, f"is not async: nothing can stop it. {instead_of(fn, self.kind, usual)}")
        if kind in ("sync", "coroutine") and config.total is None:
            _reject(fn, "gives no items, so `first` and `idle` do not limit it. Give `total`")


def _reject(fn: Any, why: str) -> NoReturn:
    raise TypeError(f"timeout cannot guard {fn!r}, which {why}")


@makes(TimeoutConfig, "@timeout(2.0)")
def timeout(config: TimeoutConfig, name: str | None) -> Timeout:
    """
    Return a timeout that ends each call after `total`.

    A call whose time is up raises CallTimeoutError, or DeadlineExceededError if the ambient deadline has passed as
    well. If the call ends by itself at that moment, or is cancelled from outside, that is its outcome.

    Args:
        total: Seconds for the whole call, > 0, or a multiple of a quantile of the recent successes, like "p99*3". A
            call that is cut short counts as `ceiling` there, so that a slowdown is learned. Or a function of the call's
            arguments that returns a time; None stands for the ceiling.
        first: Of an async generator: seconds until its first item.
        idle: Of an async generator: seconds between two items, the time that its consumer takes apart.
        floor: Lower bound on a learned or computed total, in seconds.
        ceiling: Upper bound on a learned or computed total, and the total until enough calls are known, or where the
            function raises; needed if `total` is a quantile or a function.
        thread: Run functions that are not async in threads of the policy's own. A call whose time is up goes on in its
            thread, which is abandoned; while 32 are abandoned, further calls are rejected.
        name: What it is called; the same name and options give the same timeout.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(Timeout, name, config)
