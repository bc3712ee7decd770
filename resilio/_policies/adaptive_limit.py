"""
An adaptive limit learns the concurrency limit of a dependency, and admits no more calls than that.

Why: the right number for a bulkhead depends on the dependency, and changes with every release, node and neighbour. A
limit that is too low rejects calls that could be served. One that is too high does not limit: under overload every call
waits until its answer is useless. When not: for a known, constant number use a bulkhead; for a server's own handler a
load shedder, which also decides on priorities; for a dependency that fails a circuit breaker. It does not limit calls
per second.

The law that learns (`resilio.laws`) is apart from the gate that admits: it can be replayed on a recorded trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import attrs

from resilio._failures.outcome import Judge, Outcome, judge_error, judge_value
from resilio._native.gates import AdaptiveGate
from resilio._native.primitives import LAWS
from resilio._options.fields import SharedGateOptions, check_wait, option, record
from resilio._options.validators import choice, exceptions, function, positive_int, reject, seconds
from resilio._policy.base import Policy, make
from resilio._policy.factory import makes
from resilio._policy.rules import ClientRule, client_rule, is_preset, resolved, rule
from resilio._policy.snapshot import Snapshot
from resilio._policy.types import Failures, Judged, SecondsOrNone, Unjudged
from resilio.errors import RejectedError

__all__ = ["AdaptiveLimit", "AdaptiveLimitConfig", "AdaptiveLimitSnapshot", "adaptive_limit"]

Law = Literal["default", "gradient", "vegas", "aimd"]

DROPS = (TimeoutError, RejectedError)
_DROPPED = (Outcome.FAILURE, Outcome.REFUSED)
MOST = 1_000_000


@record
class AdaptiveLimitConfig(SharedGateOptions):
    """
    The options of an adaptive limit, checked; :func:`adaptive_limit` documents each.

    A `start` out of bounds becomes the nearer bound: bounds are changed in operation, long after the start.
    """

    law: Law = option(choice, default="default", options=LAWS)
    # A start of 100 answered .86 before a processor that all calls share (of an earlier law).
    start: int = option(positive_int, default=20, high=MOST)
    floor: int = option(positive_int, default=1, high=MOST)
    ceiling: int = option(positive_int, default=1000, high=MOST)
    max_queued: int = option(positive_int, default=0, zero_ok=True)
    max_wait: SecondsOrNone = option(seconds, default=None, zero_ok=True, none_ok=True)
    on: Failures = option(rule, default=DROPS)
    ignore: Unjudged = option(exceptions, default=())
    failed_if: Judged | None = option(function, default=None, takes=("result",))

    def __attrs_post_init__(self) -> None:
        if self.ceiling < self.floor:
            reject("ceiling", self.ceiling, f"at least floor={self.floor}")
        check_wait(self)


@attrs.frozen(kw_only=True)
class AdaptiveLimitSnapshot(Snapshot):
    """
    An adaptive limit at one moment; `limit` is the one in force.

    Attributes:
        learned: The learned limit; `limit` is lower while the default law admits few calls to measure their latency.

        baseline: The latency of a call without queueing, in seconds; None while it is not known.

        passing: Calls in flight in shadow mode that enforcement would have rejected; not in `inflight`.
    """

    learned: float
    baseline: float | None
    passing: int


class AdaptiveLimit(Policy[AdaptiveLimitConfig]):
    """A learned number of permits; see :func:`adaptive_limit`, which makes one."""

    kind = "adaptive_limit"
    Config = AdaptiveLimitConfig
    _gate: AdaptiveGate

    def __init__(self, config: AdaptiveLimitConfig, name: str | None = None) -> None:
        """Make a limit that has learned nothing yet."""
        super().__init__(AdaptiveGate(config), config, name)

    def _apply_shared(self, config: Any) -> None:
        super()._apply_shared(config)
        on, failed_if = resolved(config, "drops")
        self._gate.judge_error = _judge(on, config.ignore, is_preset(config.on))
        self._gate.judge_value = judge_value(failed_if)
        self._gate.error_rule = self._gate.value_rule = client_rule(config, DROPS, ClientRule.DROPS)

    def _limit(self) -> float:
        return float(int(self._gate.limit))

    def _numbers_of_all(self) -> dict[str, int]:
        return {"used": self._gate.used_by_host}

    def snapshot(self) -> AdaptiveLimitSnapshot:
        """Return the limit, the learned values and the counters now."""
        return cast("AdaptiveLimitSnapshot", super().snapshot())

    def _snapshot(self, state: str | None, counters: Mapping[str, Any]) -> AdaptiveLimitSnapshot:
        plain = super()._snapshot(state, counters)
        limit, learned, baseline_ns, _, _, passing = self._gate.state()
        shown: dict[str, Any] = attrs.asdict(plain, recurse=False) | {"limit": float(int(limit))}
        baseline = baseline_ns / 1e9 if baseline_ns > 0 else None
        return AdaptiveLimitSnapshot(**shown, learned=learned, baseline=baseline, passing=passing)

    @property
    def limit(self) -> int:
        """The number of calls that may be in flight now."""
        return int(self._gate.limit)

    @property
    def used(self) -> int:
        """Permits held now; above `limit` for a moment after a decrease, as calls keep their permits."""
        return self._gate.used

    def _explained(self) -> str:
        law = self._config.law
        how = "rises until latency follows the calls in flight" if law == "default" else f"by the law {law!r}"
        baseline = self.snapshot().baseline
        alone = "" if baseline is None else f"; a call that queues nowhere takes {baseline:.3g} s"
        return f"learnt, {how}; {self.limit} calls at a time now{alone}"

    def reset(self) -> None:
        """Forget what was learned: the limit is `start` again. Calls in flight keep their permits and teach nothing."""
        self._gate.reset()


def _judge(on: Any, ignore: Any, rejections: bool) -> Judge:
    """Judge drops as failures and ignore any other exception: the latency of a 404 is no sample of load."""
    judge = judge_error(on, ignore, rejections=rejections) or _every_exception

    def drops_only(error: BaseException) -> Outcome:
        outcome = judge(error)
        return outcome if outcome in _DROPPED else Outcome.IGNORED

    return drops_only


def _every_exception(error: BaseException) -> Outcome:
    rejected = isinstance(error, RejectedError)
    return Outcome.FAILURE if isinstance(error, Exception) and not rejected else Outcome.IGNORED


@makes(AdaptiveLimitConfig, "@adaptive_limit()", "@adaptive_limit(ceiling=100)")
def adaptive_limit(config: AdaptiveLimitConfig, name: str | None) -> AdaptiveLimit:
    """
    Return a limit on calls in flight that learns from the dependency's latency and drops.

    Args:
        law: The law that learns: "default", or "gradient", "vegas" or "aimd", to compare; see :mod:`resilio.laws`.
        start: The limit before anything was learned, >= 1; out of bounds, the nearer bound applies.
        floor: The least limit, >= 1.
        ceiling: The largest limit, >= floor, up to a million.
        max_queued: Calls that may wait for a permit; 0: a call that finds none is rejected at once.
        max_wait: Seconds that a call waits at most, >= 0; needed where calls may wait.
        on: Exceptions that are drops: types, a predicate `exception -> bool | Outcome`, or a preset like "http". Drops
            shrink the limit; other exceptions and cancellations teach nothing. Left out: timeouts and rejections, and
            in a client's transport the answers that mean the same, like 429 and 503.
        ignore: Exceptions matched by `on` that are no drops: types, or a predicate, called only for those.
        failed_if: Results that are drops (a response 429 or 503): a predicate `result -> bool | Outcome`.
        name: What it is called; the same name and options give the same limit.
        enforce: False: reject nothing and count what would have been rejected; 0 to 1: enforce for this share.
        scope: "host": one state for all processes of the service on this host, found by name; or what
            :func:`resilio.sharing.host` returns. None: that of the variable `RESILIO_SCOPE`, "process" by default.

    Raises:
        TypeError: An option of a wrong type; the message names it and the value.
        ValueError: An option out of range, or a name that belongs to another policy.
    """
    return make(AdaptiveLimit, name, config)
