"""Numbers that only one kind of gate has, by instrument and label values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._sheet import Sheet

__all__ = ["BUDGET_EVENTS", "LONGEST_LABEL", "Numbers", "label_of", "put", "specific"]

LONGEST_LABEL = 200
BUDGET_EVENTS = {
    "deposited": "deposits",
    "withdrawn": "withdrawals",
    "rejected": "rejected",
    "refunded": "refunds",
    "reserved": "reserved",
    "repaid": "repaid",
    "failed": "failures",
}
ENDPOINT_STATES = ("well", "warming", "ejected", "probing", "drained")
_COUNTERS = frozenset(name for name, instrument in CATALOGUE.items() if instrument.type == "counter")
Numbers = dict[tuple[str, ...], float]
"""Numbers of one kind of gate, by instrument and the values of the labels other than the policy's own."""
Reader = Callable[[Numbers, Any, Any], None]


def label_of(shown: Any) -> str:
    """Return the policy's label: a name given in the code, of at most `LONGEST_LABEL` characters."""
    return str(shown.label)[:LONGEST_LABEL]


def specific(policy: Any, gate: Any) -> Numbers:
    """
    Return the numbers that only this kind of gate has.

    Args:
        policy: Policy of the gate; None: it no longer exists, and only the counters matter.

        gate: The gate.
    """
    numbers: Numbers = {}
    if gate.changes_lost:
        numbers["changes_lost",] = gate.changes_lost
    reader = _READERS.get(type(gate).__name__)
    if reader is not None:
        reader(numbers, policy, gate)
    return numbers


def put(sheet: Sheet, numbers: Numbers, own: tuple[str, str]) -> None:
    """Write a gate's numbers into a sheet."""
    for key, value in numbers.items():
        name = key[0]
        written = sheet.counters if name in _COUNTERS else sheet.gauges
        labels = own if name != "retry_budget_events" else ("retry_budget", own[1])
        written[name, labels + key[1:]] = value


def _states(numbers: Numbers, gate: Any, state: str) -> None:
    for one in gate.states:
        numbers["state", one] = int(one == state)


def _errors(numbers: Numbers, function: str, count: int) -> None:
    if count:
        numbers["function_errors", function] = count


def _breaker(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    status = gate.status()
    _states(numbers, gate, status["state"])
    for name in ("window_calls", "window_failures", "window_slow", "probes", "overdue"):
        numbers[name,] = status[name]
    numbers["consecutive_failures",] = status["consecutive"]
    numbers["admitted_share",] = status["share"]
    numbers["open_seconds",] = status["open_for"]
    numbers["retry_after_seconds",] = status["retry_after"] or 0.0
    numbers["probes_lapsed",] = status["probes_lapsed"]
    numbers["stale_results",] = status["stale"]
    if status["host_state"] is not None:
        numbers["shared_window_calls",] = status["host_window_calls"]
        numbers["shared_window_failures",] = status["host_window_failures"]


def _bulkhead(numbers: Numbers, policy: Any, gate: Any) -> None:
    numbers["limit",] = gate.capacity
    numbers["permits_used",] = gate.used
    _queue(numbers, policy)
    _states(numbers, gate, "closed_down" if gate.closed else "admitting")
    _errors(numbers, "weight", gate.weight_errors)


def _limiter(numbers: Numbers, policy: Any, gate: Any) -> None:
    for unit, tokens in gate.available().items():
        numbers["tokens", unit or "calls"] = tokens
    _queue(numbers, policy)
    _errors(numbers, "cost", gate.cost_errors)


def _spend(numbers: Numbers, policy: Any, gate: Any) -> None:
    unit = gate.book.currency
    for (model, part), cost in gate.book.all_costs().items():
        numbers["cost", model[:LONGEST_LABEL] or "none", part, unit] = cost
    _errors(numbers, "reserve", gate.book.errors)
    _errors(numbers, "gate", gate.errors)
    if policy is None:
        return
    spend = policy.spend_now()
    _states(numbers, gate, policy.state)
    for name in ("limit", "used", "reserved", "at_risk"):
        numbers[f"spend_{name}", unit] = getattr(spend, name)
    numbers["spend_resets_seconds",] = _in_steps(spend.resets_in)


def _in_steps(seconds: float) -> float:
    """Return whole minutes, and whole seconds at the end: what changes at each look would be written at each look."""
    return math.ceil(seconds / 60) * 60 if seconds > 60 else math.ceil(seconds)


def _adaptive(numbers: Numbers, policy: Any, gate: Any) -> None:
    limit, learned, baseline_ns, _, _, passing = gate.state()
    numbers["limit",] = int(limit)
    numbers["learned_limit",] = learned
    if baseline_ns > 0:
        numbers["baseline_seconds",] = baseline_ns / 1e9
    numbers["passing",] = passing
    _queue(numbers, policy)


def _shedder(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    gate.look()
    _states(numbers, gate, "overloaded" if gate.overloaded else "normal")
    numbers["limit",] = gate.limit
    numbers["permits_used",] = gate.used
    numbers["rejected_share",] = gate.rejected_share
    mean_ns, median_ns = gate.usual_ns
    if mean_ns:
        numbers["service_seconds", "mean"] = mean_ns / 1e9
        numbers["service_seconds", "median"] = median_ns / 1e9
    for (priority, reason), count in gate.rejected_by_priority().items():
        numbers["rejected_by_priority", priority, reason] = count
    _errors(numbers, "tenant", gate.tenant_errors)
    _errors(numbers, "task", gate.task_errors)


def _retry(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    retries, stopped = gate.retry_counters
    numbers["retries",] = retries
    for reason, count in stopped.items():
        if count:
            numbers["retry_stopped", reason] = count


def _hedge(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    due, rejected, wins = gate.hedge_counters
    numbers["hedges",] = max(0, due["started"] - rejected)
    numbers["hedge_wins",] = wins
    numbers["hedges_rejected",] = rejected
    for answer, count in due.items():
        numbers["hedges_due", answer] = count
    if gate.delay is not None:
        numbers["hedge_delay_seconds",] = gate.delay
    _errors(numbers, "after", gate.after_errors)


def _timeout(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    for clock, count in gate.timeouts.items():
        numbers["timeouts", clock] = count
    if gate.total is not None:
        numbers["timeout_seconds",] = gate.total
    numbers["timeout_threads",] = gate.abandoned
    _errors(numbers, "total", gate.total_errors)


def _fallback(numbers: Numbers, policy: Any, gate: Any) -> None:
    fell_back, defaulted, exhausted = gate.fallback_counters
    for result, count in {"started": fell_back, "defaulted": defaulted, "exhausted": exhausted}.items():
        numbers["fallbacks", result] = count
    for target in policy.snapshot().targets if policy is not None else ():
        name = "unnamed" if "<" in target.name else target.name[:LONGEST_LABEL]
        for key, count in {
            ("fallback_targets", name, "answered"): target.answered,
            ("fallback_targets", name, "failed"): target.failed,
            ("fallback_resting", name): int(target.resting),
        }.items():
            numbers[key] = numbers.get(key, 0) + count


def _pool(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    if policy is None:
        return
    snapshot = policy.snapshot()
    for level, share in snapshot.levels.items():
        numbers["level_share", str(level)] = share
    if snapshot.with_key:
        numbers["affinity_calls", "own"] = snapshot.at_home
        numbers["affinity_calls", "other"] = snapshot.with_key - snapshot.at_home
    for one in snapshot.endpoints:
        name = one.name[:LONGEST_LABEL]
        for state in ENDPOINT_STATES:
            numbers["endpoint_state", name, state] = int(state == one.state)
        numbers["endpoint_calls", name, "success"] = one.successes
        numbers["endpoint_calls", name, "failure"] = one.failures
        numbers["endpoint_inflight", name] = one.inflight
        numbers["endpoint_share", name] = one.share
        if one.latency is not None:
            numbers["endpoint_latency_seconds", name] = one.latency
        if one.price is not None:
            numbers["endpoint_price_seconds", name] = one.price


def _door(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    _states(numbers, gate, gate.state)


def _python(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    _errors(numbers, "gate", gate.errors)


def _queue(numbers: Numbers, policy: Any) -> None:
    if policy is not None:
        numbers["queue_limit",] = policy.config.max_queued


_READERS: dict[str, Reader] = {
    "AdaptiveGate": _adaptive,
    "BreakerGate": _breaker,
    "BulkheadGate": _bulkhead,
    "DoorGate": _door,
    "FallbackGate": _fallback,
    "HedgeGate": _hedge,
    "LimiterGate": _limiter,
    "PoolStage": _pool,
    "PythonGate": _python,
    "RetryGate": _retry,
    "ShedderGate": _shedder,
    "SpendGate": _spend,
    "TimeoutGate": _timeout,
}
"""Readers by the gate's class, not its kind: a user-defined gate may have any kind."""
