"""
Prometheus: a collector that reads the native counters and histograms when it is scraped. Nothing is pushed per call.

    resilio_calls_total{kind,name,outcome}      outcome: success, failure, ignored, rejected, cancelled
    resilio_rejected_total{kind,name,reason}    the reason from the closed set of the kind
    resilio_would_reject_total{kind,name}       shadow mode: what enforcement would have refused
    resilio_call_seconds{kind,name}             histogram of successes and failures
    resilio_inflight, resilio_queued, resilio_limit{kind,name}
    resilio_state{kind,name,state}              how many policies of this kind and name are in that state
    resilio_shed_total{kind,name,priority,reason}   calls that a load shedder lost, by their class
    resilio_retries_total{kind,name}            attempts after the first
    resilio_retry_stopped_total{kind,name,reason}   failed calls that were not tried again, by the reason
    resilio_retry_budget{kind,name}             tokens that pay for retries now; a shared one shows at each of its users
    resilio_hedges_total, resilio_hedge_wins_total{kind,name}   copies started; those whose result was the call's
    resilio_hedges_refused_total{kind,name}     copies that a budget or a gate inside has refused
    resilio_hedges_due_total{kind,name,answer}  what became of copies that were due: started, capped, losing, ...
    resilio_listener_errors_total               exceptions of event listeners

Labels are closed sets: a name is one given in the code, the name of the function for a policy without one, or "unnamed"
where that is a lambda or a local function. Policies with the same kind and name are summed.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from threading import Lock
from typing import Any

import attrs

from resilio import events, registry
from resilio._native.primitives import LatencyHistogram
from resilio._policy import Policy

try:
    from prometheus_client import REGISTRY
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError as error:
    raise ImportError("resilio.metrics.prometheus needs an extra: install resilio-sdk[prometheus]") from error

__all__ = ["BUCKETS", "ResilioCollector"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds of the buckets of resilio_call_seconds; infinity is added."""

LABELS = ["kind", "name"]
OUTCOMES = {
    "success": "successes",
    "failure": "failures",
    "ignored": "ignored",
    "rejected": "rejected",
    "cancelled": "cancelled",
}

HEDGES = {"hedges": "hedges", "hedge_wins": "hedge_wins", "hedges_refused": "refused"}
"""What is counted of hedges, and the fields of their snapshots."""

Key = tuple[str, str]


@attrs.define
class _Totals:
    """What only ever grows."""

    counters: Counter[str] = attrs.field(factory=Counter)
    refusals: Counter[str] = attrs.field(factory=Counter)
    stopped: Counter[str] = attrs.field(factory=Counter)
    due: Counter[str] = attrs.field(factory=Counter)
    shed: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    latency: LatencyHistogram = attrs.field(factory=LatencyHistogram)

    def add(self, other: _Totals) -> None:
        self.counters.update(other.counters)
        self.refusals.update(other.refusals)
        self.stopped.update(other.stopped)
        self.due.update(other.due)
        self.shed.update(other.shed)
        self.latency.merge(other.latency)


@attrs.define
class _Group:
    """The policies that share kind and name."""

    totals: _Totals = attrs.field(factory=_Totals)
    inflight: int = 0
    queued: int = 0
    limit: float | None = None
    states: Counter[str] | None = None
    budgets: dict[int, float] = attrs.field(factory=dict)

    def add(self, policy: Policy[Any]) -> _Totals:
        """Add a live policy; return what it has counted so far."""
        gate = policy.gates[0]
        counters = gate.counters()
        snapshot = policy.snapshot()
        self.inflight += counters.pop("inflight")
        self.queued += counters.pop("queued")
        if snapshot.limit is not None:
            self.limit = (self.limit or 0.0) + snapshot.limit
        states = getattr(snapshot, "states", None) or ([] if snapshot.state is None else [snapshot.state])
        if gate.states and states:
            self.states = self.states or Counter(dict.fromkeys(gate.states, 0))
            self.states.update(states)
        counters["retries"] = getattr(snapshot, "retries", 0)
        stopped = Counter(getattr(snapshot, "stopped", {}))
        due = Counter(getattr(snapshot, "due", {}))
        counters |= {name: getattr(snapshot, field, 0) for name, field in HEDGES.items()}
        budget = getattr(policy, "budget", None)
        if budget is not None:
            self.budgets[id(budget)] = budget.balance
        shed = Counter(getattr(policy, "shed", {}))
        totals = _Totals(Counter(counters), Counter(gate.refusals()), stopped, due, shed, policy.latency)
        self.totals.add(totals)
        return totals


class ResilioCollector(Collector):
    """
    Registers itself, and answers each scrape with the numbers of that moment.

    Totals never go back: what a policy had counted is kept after it is gone.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        policies: Iterable[Policy[Any]] | None = None,
        *,
        buckets: Iterable[float] = BUCKETS,
    ) -> None:
        """
        Register with a registry of prometheus_client.

        Args:
            registry: Where to register; None: the default one. One collector for each registry.

            policies: What to show; None: every policy, those made later included.

            buckets: Upper bounds of the histogram's buckets in seconds, ascending, > 0.

        Raises:
            ValueError: The registry has such a collector already, or `buckets` do not ascend.
        """
        self._policies = None if policies is None else tuple(policies)
        self._buckets = _checked(buckets)
        self._lock = Lock()
        self._seen: dict[int, tuple[weakref.ref[Policy[Any]], Key, _Totals]] = {}
        self._gone: dict[Key, _Totals] = {}
        (REGISTRY if registry is None else registry).register(self)

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without samples, which is all that registering needs."""
        yield from _families({}, self._buckets)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        with self._lock:
            groups = self._read()
        yield from _families(groups, self._buckets)

    def _read(self) -> dict[Key, _Group]:
        groups: dict[Key, _Group] = {}
        before, self._seen = self._seen, {}
        policies = registry.all() if self._policies is None else self._policies
        for shown in (shown for policy in policies for shown in policy._metered()):
            key = (shown.kind, shown.label)
            totals = groups.setdefault(key, _Group()).add(shown)
            self._seen[id(shown)] = (weakref.ref(shown), key, totals)
        self._retire(before)
        for key, totals in self._gone.items():
            groups.setdefault(key, _Group()).totals.add(totals)
        return groups

    def _retire(self, before: dict[int, tuple[weakref.ref[Policy[Any]], Key, _Totals]]) -> None:
        """Keep what the policies had counted that were here at the last scrape and are no more."""
        for identity, (reference, key, totals) in before.items():
            now = self._seen.get(identity)
            if now is None or now[0] != reference:
                self._gone.setdefault(key, _Totals()).add(totals)


def _checked(buckets: Iterable[float]) -> tuple[float, ...]:
    bounds = tuple(float(bound) for bound in buckets if bound != math.inf)
    if not bounds or not bounds[0] > 0 or not all(low < high for low, high in pairwise(bounds)):
        raise ValueError(f"buckets must be ascending bounds > 0 in seconds, not {bounds!r}")
    return (*bounds, math.inf)


def _families(groups: dict[Key, _Group], buckets: tuple[float, ...]) -> Iterator[Metric]:
    yield from _counters(groups)
    yield from _gauges(groups)
    yield from _retries(groups)
    yield from _hedges(groups)
    yield _shed(groups)
    yield _states(groups)
    yield _latencies(groups, buckets)
    errors = CounterMetricFamily("resilio_listener_errors", "Exceptions that event listeners have raised")
    errors.add_metric([], events.listener_errors())
    yield errors


def _counters(groups: dict[Key, _Group]) -> Iterator[Metric]:
    calls = CounterMetricFamily("resilio_calls", "Calls by how they ended", labels=[*LABELS, "outcome"])
    rejected = CounterMetricFamily("resilio_rejected", "Calls refused, by reason", labels=[*LABELS, "reason"])
    shadow = CounterMetricFamily("resilio_would_reject", "Calls that enforcement would have refused", labels=LABELS)
    for key, group in groups.items():
        for outcome, counter in OUTCOMES.items():
            calls.add_metric([*key, outcome], group.totals.counters[counter])
        for reason, count in group.totals.refusals.items():
            if count:
                rejected.add_metric([*key, reason], count)
        shadow.add_metric(key, group.totals.counters["would_reject"])
    yield from (calls, rejected, shadow)


def _gauges(groups: dict[Key, _Group]) -> Iterator[Metric]:
    inflight = GaugeMetricFamily("resilio_inflight", "Calls admitted and not yet ended", labels=LABELS)
    queued = GaugeMetricFamily("resilio_queued", "Calls that wait to be admitted", labels=LABELS)
    limit = GaugeMetricFamily("resilio_limit", "What inflight is held under", labels=LABELS)
    for key, group in groups.items():
        inflight.add_metric(key, group.inflight)
        queued.add_metric(key, group.queued)
        if group.limit is not None:
            limit.add_metric(key, group.limit)
    yield from (inflight, queued, limit)


def _retries(groups: dict[Key, _Group]) -> Iterator[Metric]:
    retries = CounterMetricFamily("resilio_retries", "Attempts after the first", labels=LABELS)
    stopped = CounterMetricFamily(
        "resilio_retry_stopped", "Failed calls that were not tried again, by the reason", labels=[*LABELS, "reason"]
    )
    budget = GaugeMetricFamily("resilio_retry_budget", "Tokens that pay for retries now", labels=LABELS)
    for key, group in groups.items():
        if group.totals.stopped:
            retries.add_metric(key, group.totals.counters["retries"])
        for reason, count in group.totals.stopped.items():
            if count:
                stopped.add_metric([*key, reason], count)
        if group.budgets:
            budget.add_metric(key, sum(group.budgets.values()))
    yield from (retries, stopped, budget)


def _hedges(groups: dict[Key, _Group]) -> Iterator[Metric]:
    started = CounterMetricFamily("resilio_hedges", "Copies started", labels=LABELS)
    won = CounterMetricFamily("resilio_hedge_wins", "Copies whose result was the call's", labels=LABELS)
    refused = CounterMetricFamily("resilio_hedges_refused", "Copies that a budget or a gate refused", labels=LABELS)
    due = CounterMetricFamily("resilio_hedges_due", "What became of copies that were due", labels=[*LABELS, "answer"])
    for key, group in groups.items():
        if not group.totals.due:
            continue
        for family, counter in zip((started, won, refused), HEDGES, strict=True):
            family.add_metric(key, group.totals.counters[counter])
        for answer, count in group.totals.due.items():
            due.add_metric([*key, answer], count)
    yield from (started, won, refused, due)


def _shed(groups: dict[Key, _Group]) -> Metric:
    family = CounterMetricFamily(
        "resilio_shed", "Calls that a load shedder lost, by their class", labels=[*LABELS, "priority", "reason"]
    )
    for key, group in groups.items():
        for (priority, reason), count in group.totals.shed.items():
            family.add_metric([*key, priority, reason], count)
    return family


def _states(groups: dict[Key, _Group]) -> Metric:
    family = GaugeMetricFamily("resilio_state", "Policies in this state", labels=[*LABELS, "state"])
    for key, group in groups.items():
        for state, count in (group.states or {}).items():
            family.add_metric([*key, state], count)
    return family


def _latencies(groups: dict[Key, _Group], buckets: tuple[float, ...]) -> Metric:
    family = HistogramMetricFamily("resilio_call_seconds", "Latency of successes and failures", labels=LABELS)
    names = ["+Inf" if bound == math.inf else repr(bound) for bound in buckets]
    for key, group in groups.items():
        latency = group.totals.latency
        counts = latency.buckets(buckets)
        family.add_metric(key, list(zip(names, counts, strict=True)), latency.sum)
    return family
