"""
What each kind of policy has counted, read natively: counters under the gate's lock, nothing pushed by calls.

A policy is asked when somebody looks. One that cannot answer costs its own samples and is counted, never the others'.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from resilio import events
from resilio._native.custom import latency_of
from resilio.metrics._buckets import Chooser
from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._sheet import Buckets, Sheet

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram

__all__ = ["Numbers", "label_of", "put", "read_budget", "read_policy", "read_process", "specific"]

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
    "repaid": "repaid",
    "failed": "failures",
}
_COUNTERS = frozenset(name for name, instrument in CATALOGUE.items() if instrument.type == "counter")
Numbers = dict[tuple[str, ...], float]
"""What a gate has besides what all have: by the instrument and the values of those labels that are not the policy's."""
Reader = Callable[[Numbers, Any, Any], None]


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
    gate, own = shown.gates[0], (shown.kind, label_of(shown))
    if type(gate).__name__ == "KeyedGate":
        from resilio.metrics._read_keyed import sweep_of

        sums, numbers, table = sweep_of(shown).read()
        sheet = _common(sums, own, choose(*own), latency_of(sums))
        put(sheet, numbers, own)
        put(sheet, table, ("keyed", own[1]))
        return sheet
    sheet = _common(gate, own, choose(*own), shown.latency)
    put(sheet, specific(shown, gate), own)
    return sheet


def specific(policy: Any, gate: Any) -> Numbers:
    """
    Return what a gate has besides what all have.

    Args:
        policy: Whose gate it is; None: one that is gone, of which only counters are asked.

        gate: It.
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


def _common(gate: Any, own: tuple[str, str], bounds: tuple[float, ...], latency: LatencyHistogram) -> Sheet:
    """What all gates have."""
    sheet, (kind, policy), found = Sheet(), own, gate.counters()
    counters, gauges = sheet.counters, sheet.gauges
    for outcome, counter in OUTCOMES.items():
        counters["calls", (kind, policy, outcome)] = found[counter]
    for reason, count in gate.refusals().items():
        if count:
            counters["rejected", (kind, policy, reason)] = count
    for name in ("would_reject", "would_wait", "abandoned"):
        counters[name, own] = found[name]
    for name in ("inflight", "queued"):
        gauges[name, own] = found[name]
    gauges["policies", own] = 1
    counters["waited_seconds", own] = gate.waited
    for segment, spent in gate.seconds().items():
        if spent:
            counters["call_seconds", (kind, policy, segment)] = spent
    sheet.durations[own] = Buckets(bounds, latency.buckets(bounds), latency.sum)
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
    numbers["shed_share",] = gate.shed_share
    mean_ns, median_ns = gate.usual_ns
    if mean_ns:
        numbers["service_seconds", "mean"] = mean_ns / 1e9
        numbers["service_seconds", "median"] = median_ns / 1e9
    for (priority, reason), count in gate.shed().items():
        numbers["shed", priority, reason] = count
    _errors(numbers, "tenant", gate.tenant_errors)
    _errors(numbers, "task", gate.task_errors)


def _retry(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    retries, stopped = gate.retry_counters
    numbers["retries",] = retries
    for reason, count in stopped.items():
        if count:
            numbers["retry_stopped", reason] = count


def _hedge(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    due, refused, wins = gate.hedge_counters
    numbers["hedges",] = max(0, due["started"] - refused)
    numbers["hedge_wins",] = wins
    numbers["hedges_refused",] = refused
    for answer, count in due.items():
        numbers["hedges_due", answer] = count
    if gate.delay is not None:
        numbers["hedge_delay_seconds",] = gate.delay


def _timeout(numbers: Numbers, policy: Any, gate: Any) -> None:  # noqa: ARG001
    for clock, count in gate.timeouts.items():
        numbers["timeouts", clock] = count
    if gate.total is not None:
        numbers["timeout_seconds",] = gate.total
    numbers["timeout_threads",] = gate.abandoned


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
    "PythonGate": _python,
    "RetryGate": _retry,
    "ShedderGate": _shedder,
    "TimeoutGate": _timeout,
}
"""By the gate's class, not the kind: a gate of one's own may have any kind."""
