"""One policy as the page shows it: a description made once, and figures of which only what changed is read and sent."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

from resilio.live._journal import Past

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy import Policy

__all__ = ["OPERATIONS", "QUANTILES", "Row", "operations_of"]

OPERATIONS = ("force_open", "force_closed", "disable", "reset", "resume", "reconfigure")
"""What may be asked of policies that can do it; each is a method's name."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TOTALS = ("inflight", "queued", "calls", "successes", "failures", "ignored", "rejected", "would_reject", "cancelled")
_RATES = {"calls_s": "calls", "failures_s": "failures", "rejected_s": "rejected"}
_COSTLY_NS = 1_000_000  # processor time; a row that takes longer to read is read less often
_SELDOM = 30  # readings that it leaves out at most

Fields = dict[str, Any]


def operations_of(policy: Policy[Any]) -> list[str]:
    """Return what may be asked of this policy, in the order of `OPERATIONS`."""
    no_options = policy.kind == "pipeline"
    return [
        name
        for name in OPERATIONS
        if callable(getattr(policy, name, None)) and not (name == "reconfigure" and no_options)
    ]


class Row:
    """
    What was last told of one policy; it does not keep the policy alive.

    Args:
        ident: Stands for the policy in this process.

        policy: Which.

        past: What the journal remembers of it.
    """

    __slots__ = (
        "_counters",
        "_latency",
        "_ledger",
        "_past",
        "_pause",
        "_policy",
        "_read_ns",
        "_state",
        "_still",
        "fields",
        "ident",
        "latency",
    )

    def __init__(self, ident: int, policy: Policy[Any], past: Past) -> None:
        self.ident = ident
        self.fields: Fields = {}
        self.latency: LatencyHistogram | None = None  # of the last interval
        self._policy = weakref.ref(policy)
        self._past = past
        self._counters: Mapping[str, int] = {}
        self._state: object = None
        self._latency: LatencyHistogram | None = None
        self._ledger: Mapping[str, float] = {}
        self._read_ns: int | None = None
        self._still = False  # nothing went on, and that was told
        self._pause = 0

    @property
    def policy(self) -> Policy[Any] | None:
        """The policy, None if nobody has it any more."""
        return self._policy()

    def describe(self, ident_of: Callable[[Policy[Any]], int]) -> Fields:
        """Return what does not change."""
        policy = self._policy()
        if policy is None:
            return {"id": self.ident}
        parts = [ident_of(part) for part in getattr(policy, "policies", ())]
        described = {"id": self.ident, "kind": policy.kind, "ops": operations_of(policy)}
        of = {"of": policy.gates[0].kind} if policy.kind == "keyed" else {}
        return described | of | ({"parts": parts} if parts else {})

    def read(self, now_ns: int) -> Fields:
        """
        Return the fields that have changed since the last time, all of them at the first.

        Args:
            now_ns: On resilio's clock; rates and quantiles are of the time since the last reading.
        """
        policy = self._policy()
        if policy is None or self._is_paused():
            return {}
        begun = thread_time_ns()
        try:
            found = self._figures(policy, now_ns)
        except Exception as error:  # noqa: BLE001 - a policy of somebody's own: the others are shown all the same
            found = {**self.fields, "trouble": type(error).__name__}
        self._pause = min(_SELDOM, (thread_time_ns() - begun) // _COSTLY_NS)
        before, self.fields = self.fields, found
        if found is before:
            return {}
        changed = {name: value for name, value in found.items() if name not in before or before[name] != value}
        return changed | {name: None for name in before if name not in found}

    def _is_paused(self) -> bool:
        self._pause -= 1
        return self._pause >= 0

    def _figures(self, policy: Policy[Any], now_ns: int) -> Fields:
        gate, past = policy.gates[0], self._past
        counters, state = gate.counters(), _state_of(policy)
        name, told = policy.name or "unnamed", self.fields
        same = (counters, state) == (self._counters, self._state)
        same = same and (name, past.since, past.why) == (told.get("name"), told.get("since"), told.get("why"))
        if same and self._still:
            self._read_ns = now_ns
            return self.fields
        found: Fields = {name: counters[name] for name in _TOTALS}
        found |= {"name": name, "state": state, "limit": _finite(policy._limit())}
        found |= {"since": past.since, "opened": past.opened}
        found |= self._rates(counters, now_ns)
        found |= self._quantiles(policy, counters)
        found |= self._times(policy)
        found["why"] = past.why
        self._still = same
        self._counters, self._state, self._read_ns = counters, state, now_ns
        return found

    def _rates(self, counters: Mapping[str, int], now_ns: int) -> Fields:
        before, seconds = self._counters, (now_ns - (self._read_ns or now_ns)) / 1e9
        if not before or seconds <= 0:
            return dict.fromkeys(_RATES, 0.0)
        return {rate: _rounded((counters[name] - before[name]) / seconds) for rate, name in _RATES.items()}

    def _quantiles(self, policy: Policy[Any], counters: Mapping[str, int]) -> Fields:
        before = self._counters
        ended = counters["successes"] + counters["failures"]
        if before and ended == before["successes"] + before["failures"]:
            self.latency = None
            return dict.fromkeys(QUANTILES)
        now = policy.latency
        earlier, self._latency = self._latency, now
        self.latency = _difference(now, earlier)
        if self.latency is None or not self.latency.count:
            return dict.fromkeys(QUANTILES)
        return {name: _rounded(1000 * self.latency.quantile(share)) for name, share in QUANTILES.items()}

    def _times(self, policy: Policy[Any]) -> Fields:
        """The time ledger of the interval: seconds by what they were spent on."""
        ledger = policy.call_seconds
        before, self._ledger = self._ledger, ledger
        spent = {name: _rounded(value - before.get(name, 0.0)) for name, value in ledger.items()} if before else {}
        return {"time": {name: value for name, value in spent.items() if value > 0}}


def _state_of(policy: Policy[Any]) -> Any:
    """Return the state, of a keyed policy how many are in which, None for one without states."""
    states = getattr(policy, "_states", None)
    return states(policy.gates[0]) if states is not None else policy._state()


def _difference(now: LatencyHistogram, earlier: LatencyHistogram | None) -> LatencyHistogram | None:
    """What was counted in between; None at the first time."""
    return None if earlier is None else now.since(earlier)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else _rounded(value)


def _rounded(value: float) -> float:
    return round(value, 1) if value >= 100 else round(value, 2) if value >= 1 else round(value, 4)
