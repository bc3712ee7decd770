"""
Reader of the native counters of each kind of policy, under its gate's lock; calls push nothing.

A policy is read on demand. One that raises loses its own samples, and the error is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resilio import events
from resilio._context.process_switch import switched_off
from resilio._native.custom import latency_of
from resilio.metrics._buckets import Chooser
from resilio.metrics._numbers import BUDGET_EVENTS, LONGEST_LABEL, Numbers, label_of, put, specific
from resilio.metrics._read_keyed import sweep_of
from resilio.metrics._sheet import Buckets, Sheet

if TYPE_CHECKING:
    from resilio._native.primitives import LatencyHistogram
    from resilio._policy.snapshot import Sharing

__all__ = ["read_budget", "read_policy", "read_process"]

OF_ALL = {"limit": "shared_limit", "learned_limit": "shared_learned_limit", "tokens": "shared_tokens"}
"""Numbers of a gate that are the host's while it is shared, and their names then."""

OUTCOMES = {
    "success": "successes",
    "failure": "failures",
    "ignored": "ignored",
    "rejected": "rejected",
    "cancelled": "cancelled",
}


def read_policy(shown: Any, choose: Chooser) -> Sheet:
    """
    Return all numbers of a policy, or of a stage of a keyed one.

    Args:
        shown: An item of `policy._metered()`: it has kind, label and gates, outermost first.

        choose: Returns the bounds of its histogram.
    """
    gate, own = shown.gates[0], (shown.kind, label_of(shown))
    if type(gate).__name__ == "KeyedGate":
        sums, numbers, table = sweep_of(shown).read()
        sheet = _common(sums, own, choose(*own), latency_of(sums))
        put(sheet, _of_all(shown, numbers), own)
        put(sheet, table, ("keyed", own[1]))
        _shared(sheet, shown, own)
        return sheet
    sheet = _common(gate, own, choose(*own), shown.latency)
    put(sheet, _of_all(shown, specific(shown, gate)) | _beside(shown, gate), own)
    _shared(sheet, shown, own)
    return sheet


def _shared(sheet: Sheet, shown: Any, own: tuple[str, str]) -> None:
    """Add how the state is shared with other processes, if it is."""
    link = getattr(shown, "_link", None)
    if link is not None:
        sharing = link.sharing()
        sheet.gauges["shared_peers", own] = sharing.peers
        if sharing.degraded is not None:
            sheet.gauges["shared_degraded", (*own, sharing.degraded)] = 1
        if sharing.scope.startswith("fleet:"):
            _of_fleet(sheet, sharing, own)


def _of_fleet(sheet: Sheet, sharing: Sharing, own: tuple[str, str]) -> None:
    """Add how a policy exchanges with the store of its fleet."""
    if sharing.age is not None:
        sheet.gauges["shared_age_seconds", own] = int(sharing.age)
    if sharing.outstanding is not None:
        sheet.gauges["shared_outstanding", own] = sharing.outstanding
    if sharing.regime is not None:
        sheet.gauges["shared_regime", (*own, sharing.regime)] = 1
    sheet.counters["shared_trips", own] = sharing.trips
    sheet.counters["shared_trips_lost", own] = sharing.lost


def _of_all(shown: Any, numbers: Numbers) -> Numbers:
    """
    Return a gate's numbers; those that all processes of the host have together under names of their own.

    They are the same in each process, and must not be added up.
    """
    link = getattr(shown, "_link", None)
    if link is None or link.sharing().degraded is not None:
        return numbers
    return {(OF_ALL.get(name, name), *labels): value for (name, *labels), value in numbers.items()}


def _beside(shown: Any, gate: Any) -> Numbers:
    """Return what all processes of the host have together, where the gate's own numbers are the process's."""
    sharing = shown._sharing() if getattr(shown, "_link", None) is not None else None
    if sharing is None:
        return {}
    states = () if sharing.state is None else gate.states
    used: Numbers = {} if sharing.used is None else {("shared_permits_used",): sharing.used}
    return {**used, **{("shared_state", one): int(one == sharing.state) for one in states}}


def _common(gate: Any, own: tuple[str, str], bounds: tuple[float, ...], latency: LatencyHistogram) -> Sheet:
    """Return the numbers that all gates have."""
    sheet, (kind, policy), found = Sheet(), own, gate.counters()
    counters, gauges = sheet.counters, sheet.gauges
    for outcome, counter in OUTCOMES.items():
        counters["calls", (kind, policy, outcome)] = found[counter]
    for reason, count in gate.rejections().items():
        if count:
            counters["rejected", (kind, policy, reason)] = count
    for name in ("would_reject", "would_wait", "abandoned", "refused"):
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
    """Return the numbers of a retry budget: gauges for each of its users, counters under its own name."""
    sheet, status = Sheet(), budget._status()
    users = sorted(users)
    for own in users:
        sheet.gauges["retry_budget", own] = status["balance"]
        sheet.gauges["retry_budget_limit", own] = budget.config.cap
    own = ("retry_budget", (budget.name or users[0][1])[:LONGEST_LABEL])
    for event in BUDGET_EVENTS:
        sheet.counters["retry_budget_events", (*own, event)] = status[BUDGET_EVENTS[event]]
    _shared(sheet, budget, own)
    return sheet


def read_process() -> Sheet:
    """Return the numbers that belong to no policy."""
    sheet = Sheet()
    sheet.gauge("disabled", float(switched_off()))
    sheet.count("listener_errors", events.listener_errors())
    sheet.count("exporter_errors", _exporter_errors())
    wire = sys.modules.get("resilio.integrations._shared.headers")
    ignored = getattr(wire, "ignored_headers", None)
    if ignored is not None:
        for (header, why), count in ignored().items():
            sheet.count("ignored_headers", count, header, why)
    return sheet


def _exporter_errors() -> int:
    from resilio.metrics import _trouble

    return _trouble.errors()
