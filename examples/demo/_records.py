"""What is written down during a run, and what is made of it: pure functions, checked one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

__all__ = [
    "OUTCOMES",
    "RECOVERED_SHARE",
    "RECOVERY_WINDOW",
    "Record",
    "Slice",
    "percentile",
    "recovery_seconds",
    "slices",
    "success_rate",
]

OUTCOMES = ("ok", "late", "rejected", "no connection", "timeout", "unavailable", "broken")
RECOVERY_WINDOW = 0.5  # seconds
RECOVERED_SHARE = 0.95


@attrs.frozen
class Record:
    """
    One request that the service has answered.

    Attributes:
        due: When it was due, in seconds from the start; its waiting time counts from here, even if it was begun late.

        dependency: Which it needed.

        outcome: One of `OUTCOMES`.

        latency: Seconds from *due* to the answer.

        late: Seconds from *due* to the begin: how far the load generator was behind.
    """

    due: float
    dependency: str
    outcome: str
    latency: float
    late: float = 0.0

    @property
    def ok(self) -> bool:
        """True if the request was served."""
        return self.outcome == "ok"


@attrs.frozen
class Slice:
    """Outcomes and waiting times of the requests that were due in one short stretch of time."""

    begin: float
    outcomes: Counter[str]
    p99: float | None


def percentile(values: Iterable[float], percent: float) -> float | None:
    """
    Give the smallest value that at least *percent* of the values do not exceed (nearest rank, no interpolation).

    Args:
        values: In any order.

        percent: 0 < percent <= 100.

    Returns:
        One of the values, or None if there are none.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(1, math.ceil(len(ordered) * percent / 100.0)) - 1]


def success_rate(records: Sequence[Record]) -> float | None:
    """Give the share of the requests that were served, 0..1, or None if there were none."""
    return sum(record.ok for record in records) / len(records) if records else None


def recovery_seconds(records: Iterable[Record], healed: float, end: float) -> float | None:
    """
    Give how long after the outage the service was well again.

    That is the time from the end of the outage to the begin of the first window of `RECOVERY_WINDOW` seconds of whose
    requests at least `RECOVERED_SHARE` are served. Windows begin where a request is due.

    Args:
        records: Of the requests that need the dependency which was down.

        healed: When the outage ended, in seconds from the start.

        end: When the last request was due; a window must lie before it.

    Returns:
        Seconds, or None if no window was good enough.
    """
    later = sorted((record for record in records if record.due >= healed), key=lambda record: record.due)
    last = served = 0  # of later[first:last] *served* are ok: the window, unless a request before it was due as early
    before = None
    for first, record in enumerate(later):
        if record.due + RECOVERY_WINDOW > end:
            return None
        while last < len(later) and later[last].due < record.due + RECOVERY_WINDOW:
            served += later[last].ok
            last += 1
        if record.due != before and served >= RECOVERED_SHARE * (last - first):
            return record.due - healed
        served -= record.ok
        before = record.due
    return None


def slices(records: Iterable[Record], seconds: float, width: float) -> list[Slice]:
    """
    Cut the time into slices of equal width and count what happened to the requests that were due in each.

    Args:
        records: In any order.

        seconds: How long the run lasts.

        width: Of a slice in seconds, > 0.

    Returns:
        One slice after the other, without a gap, empty ones too.
    """
    count = max(1, math.ceil(seconds / width))
    members: list[list[Record]] = [[] for _ in range(count)]
    for record in records:
        members[min(count - 1, int(record.due / width))].append(record)
    return [
        Slice(
            index * width,
            Counter(record.outcome for record in each),
            percentile((record.latency for record in each), 99),
        )
        for index, each in enumerate(members)
    ]
