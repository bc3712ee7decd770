"""
What each kind of policy has counted, read natively: counters under the gate's lock, nothing pushed by calls.

A policy is asked when somebody looks. One that cannot answer costs its own samples and is counted, never the others'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from resilio import events
from resilio.metrics._buckets import Chooser
from resilio.metrics._sheet import Buckets, Sheet

__all__ = ["label_of", "read_budget", "read_policy", "read_process"]

LONGEST_LABEL = 200
OUTCOMES = {
    "success": "successes",
    "failure": "failures",
    "ignored": "ignored",
    "rejected": "rejected",
    "cancelled": "cancelled",
}
BUDGET_EVENTS = {
    "deposited": "deposits",
    "withdrawn": "withdrawals",
    "refused": "refused",
    "refunded": "refunds",
    "reserved": "reserved",
}
Reader = Callable[[Sheet, Any, Any, tuple[str, str]], None]


def label_of(shown: Any) -> str:
    """Return the name for metrics: one from the code, bounded in length."""
    return str(shown.label)[:LONGEST_LABEL]


def read_policy(shown: Any, choose: Chooser) -> Sheet:
    """
    Return all numbers of a policy, or of a stage of a keyed one.

    Args:
        shown: What `policy._metered()` gives: it has kind, label and gates, outermost first.

        choose: Says which bounds its histogram has.
    """
    sheet, gate, own = Sheet(), shown.gates[0], (shown.kind, label_of(shown))
    counters = gate.counters()
    for outcome, counter in OUTCOMES.items():
        sheet.counters["calls", (*own, outcome)] = counters[counter]
    for reason, count in gate.refusals().items():
        if count:
            sheet.counters["rejected", (*own, reason)] = count
    for name in ("would_reject", "would_wait", "abandoned"):
        sheet.counters[name, own] = counters[name]
    for name in ("inflight", "queued"):
        sheet.gauges[name, own] = counters[name]
    sheet.gauges["policies", own] = 1
    if gate.changes_lost:
        sheet.count("changes_lost", gate.changes_lost, *own)
    _read_ledger(sheet, gate, own)
    _read_duration(sheet, shown, choose(*own), own)
    reader = _READERS.get(type(gate).__name__)
    if reader is not None:
        reader(sheet, shown, gate, own)
    return sheet


def read_budget(budget: Any, users: Iterable[tuple[str, str]]) -> Sheet:
    """Return the numbers of a retry budget: what it holds for each of its users, what it counted under its own name."""
    sheet, status = Sheet(), budget._status()
    users = sorted(users)
    for own in users:
        sheet.gauges["retry_budget", own] = status["balance"]
        sheet.gauges["retry_budget_limit", own] = budget.config.cap
    own = ("retry_budget", (budget.name or users[0][1])[:LONGEST_LABEL])
    for event in BUDGET_EVENTS:
        sheet.counters["retry_budget_events", (*own, event)] = status[BUDGET_EVENTS[event]]
    return sheet


def read_process() -> Sheet:
    """Return the numbers that belong to no policy."""
    sheet = Sheet()
    sheet.count("listener_errors", events.listener_errors())
    sheet.count("exporter_errors", _exporter_errors())
    wire = sys.modules.get("resilio.integrations._wire")
    ignored = getattr(wire, "ignored_headers", None)
    if ignored is not None:
        for (header, why), count in ignored().items():
            sheet.count("ignored_headers", count, header, why)
    return sheet


def _exporter_errors() -> int:
    from resilio.metrics import _trouble

    return _trouble.errors()


def _read_ledger(sheet: Sheet, gate: Any, own: tuple[str, str]) -> None:
    sheet.counters["waited_seconds", own] = gate.waited
    for segment, spent in gate.seconds().items():
        if spent:
            sheet.counters["call_seconds", (*own, segment)] = spent


def _read_duration(sheet: Sheet, shown: Any, bounds: tuple[float, ...], own: tuple[str, str]) -> None:
    latency = shown.latency
    sheet.durations[own] = Buckets(bounds, latency.buckets(bounds), latency.sum)


def _states(sheet: Sheet, gate: Any, own: tuple[str, str], states: dict[str, int]) -> None:
    for state in gate.states:
        sheet.gauges["state", (*own, state)] = states.get(state, 0)


def _errors(sheet: Sheet, own: tuple[str, str], function: str, count: int) -> None:
    if count:
        sheet.count("function_errors", count, *own, function)


def _breaker(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    status = gate.status()
    _states(sheet, gate, own, {status["state"]: 1})
    gauges = sheet.gauges
    for name in ("window_calls", "window_failures", "window_slow", "probes", "overdue"):
        gauges[name, own] = status[name]
    gauges["consecutive_failures", own] = status["consecutive"]
    gauges["admitted_share", own] = status["share"]
    gauges["open_seconds", own] = status["open_for"]
    gauges["retry_after_seconds", own] = status["retry_after"] or 0.0
    sheet.counters["probes_lapsed", own] = status["probes_lapsed"]
    sheet.counters["stale_results", own] = status["stale"]


def _bulkhead(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:
    sheet.gauges["limit", own] = gate.capacity
    sheet.gauges["permits_used", own] = gate.used
    _queue(sheet, shown, own)
    _states(sheet, gate, own, {"closed_down" if gate.closed else "admitting": 1})
    _errors(sheet, own, "weight", gate.weight_errors)


def _limiter(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:
    for unit, tokens in gate.available().items():
        sheet.gauges["tokens", (*own, unit or "calls")] = tokens
    _queue(sheet, shown, own)
    _errors(sheet, own, "cost", gate.cost_errors)


def _adaptive(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:
    limit, learned, baseline_ns, _, _, passing = gate.state()
    sheet.gauges["limit", own] = int(limit)
    sheet.gauges["learned_limit", own] = learned
    if baseline_ns > 0:
        sheet.gauges["baseline_seconds", own] = baseline_ns * 1e-9
    sheet.gauges["passing", own] = passing
    _queue(sheet, shown, own)


def _shedder(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    gate.look()
    _states(sheet, gate, own, {"overloaded" if gate.overloaded else "normal": 1})
    sheet.gauges["limit", own] = gate.limit
    sheet.gauges["permits_used", own] = gate.used
    sheet.gauges["shed_share", own] = gate.shed_share
    mean_ns, median_ns = gate.usual_ns
    if mean_ns:
        sheet.gauges["service_seconds", (*own, "mean")] = mean_ns * 1e-9
        sheet.gauges["service_seconds", (*own, "median")] = median_ns * 1e-9
    for (priority, reason), count in gate.shed().items():
        sheet.counters["shed", (*own, priority, reason)] = count
    _errors(sheet, own, "tenant", gate.tenant_errors)
    _errors(sheet, own, "task", gate.task_errors)


def _retry(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    retries, stopped = gate.retry_counters
    sheet.counters["retries", own] = retries
    for reason, count in stopped.items():
        if count:
            sheet.counters["retry_stopped", (*own, reason)] = count


def _hedge(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    due, refused, wins = gate.hedge_counters
    sheet.counters["hedges", own] = max(0, due["started"] - refused)
    sheet.counters["hedge_wins", own] = wins
    sheet.counters["hedges_refused", own] = refused
    for answer, count in due.items():
        sheet.counters["hedges_due", (*own, answer)] = count
    if gate.delay is not None:
        sheet.gauges["hedge_delay_seconds", own] = gate.delay


def _timeout(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    for clock, count in gate.timeouts.items():
        sheet.counters["timeouts", (*own, clock)] = count
    if gate.total is not None:
        sheet.gauges["timeout_seconds", own] = gate.total
    sheet.gauges["timeout_threads", own] = gate.abandoned


def _fallback(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:
    fell_back, defaulted, exhausted = gate.fallback_counters
    for result, count in {"started": fell_back, "defaulted": defaulted, "exhausted": exhausted}.items():
        sheet.counters["fallbacks", (*own, result)] = count
    for target in shown.snapshot().targets:
        name = "unnamed" if "<" in target.name else target.name[:LONGEST_LABEL]
        sheet.count("fallback_targets", target.answered, *own, name, "answered")
        sheet.count("fallback_targets", target.failed, *own, name, "failed")
        sheet.gauge("fallback_resting", int(target.resting), *own, name)


def _keyed(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:
    if gate.states:
        _states(sheet, gate, own, shown._owner._states(gate))
    if gate.index:
        return  # one table serves all stages
    table, whole = gate.table, ("keyed", own[1])
    sheet.gauges["keys", whole] = len(table)
    sheet.gauges["keys_limit", whole] = shown._owner.config.max_keys
    for name, value in {
        "keys_evicted": table.evicted,
        "keys_overflowed": table.overflowed,
        "keyless": table.errors,
    }.items():
        sheet.counters[name, whole] = value


def _door(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    _states(sheet, gate, own, {gate.state: 1})


def _python(sheet: Sheet, shown: Any, gate: Any, own: tuple[str, str]) -> None:  # noqa: ARG001
    _errors(sheet, own, "gate", gate.errors)


def _queue(sheet: Sheet, shown: Any, own: tuple[str, str]) -> None:
    sheet.gauges["queue_limit", own] = shown.config.max_queued


_READERS: dict[str, Reader] = {
    "AdaptiveGate": _adaptive,
    "BreakerGate": _breaker,
    "BulkheadGate": _bulkhead,
    "DoorGate": _door,
    "FallbackGate": _fallback,
    "HedgeGate": _hedge,
    "KeyedGate": _keyed,
    "LimiterGate": _limiter,
    "PythonGate": _python,
    "RetryGate": _retry,
    "ShedderGate": _shedder,
    "TimeoutGate": _timeout,
}
"""By the gate's class, not the kind: a gate of one's own may have any kind."""
