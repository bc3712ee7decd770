"""The statistics: percentiles, success, recovery, slices."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.demo._records import (
    RECOVERED_SHARE,
    RECOVERY_WINDOW,
    Record,
    percentile,
    recovery_seconds,
    slices,
    success_rate,
)


def record(due: float, outcome: str = "ok", latency: float = 0.01) -> Record:
    return Record(due, "recommendations", outcome, latency)


def steady(begin: float, end: float, outcome: str, rate: float = 100.0) -> list[Record]:
    return [record(begin + number / rate, outcome) for number in range(round((end - begin) * rate))]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 75, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 76, 4.0),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 1001)), 99, 990),
        ([1.0, 2.0], 100, 2.0),
        ([], 99, None),
    ],
)
def test_percentile_is_the_nearest_rank(values: list[float], percent: float, expected: float | None) -> None:
    """A percentile is a value that occurred, by the textbook's nearest-rank definition."""
    assert percentile(values, percent) == expected


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 100))
def test_percentile_is_the_smallest_value_that_covers_enough(values: list[int], percent: int) -> None:
    """At least the given share of the values is not above the percentile, and no smaller value can say so."""
    found = percentile(values, percent)
    covered = [value for value in values if sum(each <= value for each in values) * 100 >= percent * len(values)]
    assert found == min(covered)


def test_success_rate_counts_what_was_served_in_time() -> None:
    """Late answers and rejections are no success; nothing asked is no rate."""
    assert success_rate([record(0), record(1, "late"), record(2, "rejected"), record(3)]) == 0.5
    assert success_rate([]) is None


def test_recovery_is_when_served_requests_begin() -> None:
    """Failures until 1.2 s after the outage, then successes: recovered after 1.2 s, less what may fail in a window."""
    records = steady(10.0, 11.2, "timeout") + steady(11.2, 15.0, "ok")
    tolerated = math.floor((1 - RECOVERED_SHARE) * RECOVERY_WINDOW * 100 + 1e-9) / 100
    assert recovery_seconds(records, 10.0, 15.0) == pytest.approx(1.2 - tolerated)


def test_recovery_without_trouble_takes_no_time() -> None:
    """A service whose first request after the outage and all that follow are served has recovered at that request."""
    assert recovery_seconds(steady(10.05, 15.0, "ok"), 10.0, 15.0) == pytest.approx(0.05)


def test_a_lucky_streak_is_no_recovery() -> None:
    """Successes for less than the window do not count; the next, longer stretch does."""
    records = steady(10.0, 10.3, "ok") + steady(10.3, 12.0, "timeout") + steady(12.0, 15.0, "ok")
    assert recovery_seconds(records, 10.0, 15.0) == pytest.approx(2.0, abs=0.03)


def test_recovery_must_be_seen_to_last() -> None:
    """A window that reaches beyond the last request proves nothing, and neither does a service that stays down."""
    assert recovery_seconds(steady(10.0, 14.8, "timeout") + steady(14.8, 15.0, "ok"), 10.0, 15.0) is None
    assert recovery_seconds(steady(10.0, 15.0, "late"), 10.0, 15.0) is None
    assert recovery_seconds([], 10.0, 15.0) is None


def test_recovery_ignores_what_was_due_before() -> None:
    """Requests of the outage itself do not count, however they ended."""
    records = steady(8.0, 10.0, "timeout") + steady(10.0, 15.0, "ok")
    assert recovery_seconds(records, 10.0, 15.0) == pytest.approx(0.0)


def naive_recovery(records: list[Record], healed: float, end: float) -> float | None:
    later = sorted((each for each in records if each.due >= healed), key=lambda each: each.due)
    for each in later:
        if each.due + RECOVERY_WINDOW > end:
            return None
        window = [other for other in later if each.due <= other.due < each.due + RECOVERY_WINDOW]
        if sum(other.ok for other in window) >= RECOVERED_SHARE * len(window):
            return each.due - healed
    return None


times = st.floats(0, 5) | st.sampled_from([1.0, 2.0])  # some of them the same


@given(st.lists(st.tuples(times, st.sampled_from(["ok", "timeout"])), max_size=60))
def test_recovery_agrees_with_the_naive_definition(outcomes: list[tuple[float, str]]) -> None:
    """The sliding window gives what counting each window anew gives."""
    records = [record(due, outcome) for due, outcome in outcomes]
    assert recovery_seconds(records, 1.0, 5.0) == naive_recovery(records, 1.0, 5.0)


def test_slices_hold_every_record_once() -> None:
    """All slices together hold each record, also one at the very end, and empty slices are there."""
    records = [record(0.0), record(0.1, "late"), record(2.5, "rejected"), record(3.0)]
    parts = slices(records, 3.0, 0.5)
    assert [part.begin for part in parts] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    assert [part.outcomes.total() for part in parts] == [2, 0, 0, 0, 0, 2]
    assert parts[0].outcomes == {"ok": 1, "late": 1}
    assert parts[1].p99 is None


def test_slices_tell_the_wait_of_each() -> None:
    """The p99 of a slice is that of the requests due in it."""
    parts = slices([record(0.1, latency=0.2), record(0.2, latency=0.4), record(1.1, latency=3.0)], 2.0, 1.0)
    assert [part.p99 for part in parts] == [0.4, 3.0]
