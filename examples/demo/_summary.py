"""The figures of a run, each made from its records and the server's counts; nothing here knows a run's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from examples.demo._records import Record, percentile, recovery_seconds, success_rate
from examples.demo._run import Run

__all__ = ["summary_of"]


def summary_of(run: Run) -> dict[str, Any]:
    """
    Sum a run up in plain data.

    Args:
        run: Complete or not; requests without an answer are left out.

    Returns:
        The figures by name; one that cannot be known is None. Times are seconds, rates shares of 1.
    """
    by_dependency: dict[str, list[Record]] = {name: [] for name in run.act.rates}
    for record in run.records:
        by_dependency[record.dependency].append(record)
    return {
        "complete": run.complete,
        "seconds": round(run.elapsed, 3),
        "offered": run.offered,
        "answered": len(run.records),
        "success_rate": success_rate(run.records),
        **{name: _figures(records) for name, records in by_dependency.items()},
        "calls_sent": _calls_sent(run),
        "calls_while_down": _calls_while_down(run),
        "answers_for_nobody": sum(site["wasted"] for site in run.server.values()) if run.server else None,
        "recovery_seconds": _recovery(by_dependency[run.act.flaky], run),
        "served_while_down": _served_while_down(by_dependency[run.act.flaky], run),
        "generator_late_p99": percentile((record.late for record in run.records), 99),
    }


def _figures(records: Sequence[Record]) -> dict[str, Any]:
    waits = [record.latency for record in records]
    return {
        "answered": len(records),
        "success_rate": success_rate(records),
        "served": sum(record.ok for record in records),
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
        "outcomes": dict(Counter(record.outcome for record in records)),
    }


def _calls_sent(run: Run) -> float | None:
    """Give the calls that reached the servers for each request offered; None unless the run is complete."""
    if run.server is None or not run.complete:
        return None
    arrived = sum(sum(site["arrived"].values()) for site in run.server.values())
    return round(arrived / run.offered, 4) if run.offered else None


def _calls_while_down(run: Run) -> int | None:
    """Count by the server's own book; None if it could not be asked or the outage was not seen to its end."""
    schedule = run.act.schedule
    outage = schedule.outage()
    if run.server is None or outage is None or run.elapsed < outage[1]:
        return None
    down = [(name, phase.name) for name, site in run.act.sites.items() for phase in site.schedule.phases if phase.down]
    return sum(int(run.server[name]["arrived"].get(phase, 0)) for name, phase in down)


def _served_while_down(records: Sequence[Record], run: Run) -> float | None:
    outage = run.act.schedule.outage()
    if outage is None or run.elapsed < outage[1]:
        return None
    return success_rate([record for record in records if outage[0] <= record.due < outage[1]])


def _recovery(records: Sequence[Record], run: Run) -> float | None:
    outage = run.act.schedule.outage()
    return recovery_seconds(records, outage[1], min(run.elapsed, run.seconds)) if outage else None
