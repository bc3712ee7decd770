"""
What a fleet's askers have seen of a breaker's calls, added up, and the law by which that opens it.

The window is a list of buckets, each as long as a tick. The *row* is what failed after the last call that did not fail.
It counts once three quarters of those that have calls are in it: a few that happen to report in turn are no row. One
asker's evidence weighs no more than that of all others together: in the row it counts up to as much as theirs, and a
rate must hold without the worst asker of each bucket. So a host whose own network fails opens its own breaker alone.

Calls that hang show an outage before their timeouts do. As on a host (shared/breaker_rows.h), they weigh no more than
what has failed, and prove nothing: where no call fails, calls that take long open nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from resilio.sharing._fleet.ask_breaker import BY_CONSECUTIVE, BY_FAILURE_RATE, BY_SLOW_RATE, BreakerAsk
from resilio.sharing._fleet.rules.rows import Row

__all__ = ["Asker", "Bucket", "add", "judge"]

MILLION = 1_000_000
MOST_BUCKETS = 16
MOST_PROOF = 300
"""Failures in a row at most that are multiplied: so many prove what they can."""


class Bucket:
    """Calls reported within one tick: all, and those of the askers with the most failed, and the most slow, calls."""

    since: float
    total: float
    failed: float
    slow: float
    worst: float
    worst_total: float
    slowest: float
    slowest_total: float
    __slots__ = ("failed", "since", "slow", "slowest", "slowest_total", "total", "worst", "worst_total")

    def __init__(self, row: Row) -> None:
        self.since, self.total, self.failed, self.slow = row[:4]
        self.worst, self.worst_total, self.slowest, self.slowest_total = row[4:]

    @staticmethod
    def all_of(numbers: Row) -> list[Bucket]:
        """Return buckets from their numbers."""
        return [Bucket(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]

    def row(self) -> Row:
        """Return the numbers in their order."""
        worst = (self.worst, self.worst_total, self.slowest, self.slowest_total)
        return (self.since, self.total, self.failed, self.slow, *worst)

    def add(self, asker: Asker, ask: BreakerAsk) -> None:
        """Add a report; one asker may send several within a tick."""
        total = ask.ok + ask.failed
        self.total += total
        self.failed += ask.failed
        self.slow += ask.slow
        if asker.tick != self.since:
            asker.tick, asker.tick_total, asker.tick_failed, asker.tick_slow = self.since, 0, 0, 0
        asker.tick_total += total
        asker.tick_failed += ask.failed
        asker.tick_slow += ask.slow
        if asker.tick_failed >= max(self.worst, 1):
            self.worst, self.worst_total = asker.tick_failed, asker.tick_total
        if asker.tick_slow >= max(self.slowest, 1):
            self.slowest, self.slowest_total = asker.tick_slow, asker.tick_total

    def merge(self, later: Bucket) -> None:
        """Add the next bucket; its time counts, so nothing expires too early."""
        self.since = later.since
        self.total += later.total
        self.failed += later.failed
        self.slow += later.slow
        self.worst += later.worst
        self.worst_total += later.worst_total
        self.slowest += later.slowest
        self.slowest_total += later.slowest_total


class Asker:
    """
    The row of one asker, by names.

    Attributes:
        seq: Of its last report.

        seen: When that came.

        called: When it last reported calls.

        bad: When it last reported failed or slow calls.

        failing: When the first of its failures in the row ended; they count if that is after the last success.

        failures: These failures.

        flying: Calls that it began in the row and that may still succeed.

        late: Its calls that hang, by its last report.

        tick, tick_total, tick_failed, tick_slow: The beginning of the bucket of its last report, and its calls in that.

        lease, lease_of, lease_until: The lease of a probe: its number (0: none), its generation and its end.
    """

    seq: float
    seen: float
    called: float
    bad: float
    failing: float
    failures: float
    flying: float
    late: float
    tick: float
    tick_total: float
    tick_failed: float
    tick_slow: float
    lease: float
    lease_of: float
    lease_until: float
    __slots__ = (
        "bad", "called", "failing", "failures", "flying", "late", "lease", "lease_of", "lease_until", "seen", "seq",
        "tick", "tick_failed", "tick_slow", "tick_total",
    )  # fmt: skip

    def __init__(self, row: Row | None) -> None:
        row = (0, 0, -1, -1, -1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0) if row is None else row
        self.seq, self.seen, self.called, self.bad, self.failing, self.failures, self.flying, self.late = row[:8]
        self.tick, self.tick_total, self.tick_failed, self.tick_slow = row[8:12]
        self.lease, self.lease_of, self.lease_until = row[12:]

    def row(self) -> Row:
        """Return the numbers in their order."""
        evidence = (self.seq, self.seen, self.called, self.bad, self.failing, self.failures, self.flying, self.late)
        tick = (self.tick, self.tick_total, self.tick_failed, self.tick_slow)
        return (*evidence, *tick, self.lease, self.lease_of, self.lease_until)

    def holds(self, generation: float, at: float) -> bool:
        """Return True if it holds the lease of a probe of this generation."""
        return self.lease > 0 and self.lease_of == generation and at < self.lease_until


def add(buckets: list[Bucket], row_since: float, asker: Asker, ask: BreakerAsk, at: float) -> float:
    """Add a report to the window and the row; return since when failures are in the row."""
    _roll(buckets, ask, at)
    buckets[-1].add(asker, ask)
    if ask.ok + ask.failed > 0:
        asker.called = at
    if ask.failed + ask.slow > 0:
        asker.bad = at
    failures = ask.tail if ask.ok > 0 else ask.failed + ask.gone
    if ask.ok > 0:
        row_since, asker.failing, asker.failures = max(row_since, at - ask.good_us), -1, 0
    if failures > 0 and at - ask.bad_us >= row_since:
        if asker.failing < row_since:
            asker.failing, asker.failures = at - ask.bad_us, 0
        asker.failures += failures
    asker.flying, asker.late = ask.flying, ask.late
    return row_since


def _roll(buckets: list[Bucket], ask: BreakerAsk, at: float) -> None:
    """Begin a bucket if it is time, and drop what has left the window."""
    if not buckets or at >= buckets[-1].since + ask.tick_us:
        buckets.append(Bucket((at, 0, 0, 0, 0, 0, 0, 0)))
    if len(buckets) > MOST_BUCKETS:
        buckets[0].merge(buckets.pop(1))
    total = sum(one.total for one in buckets)
    while len(buckets) > 1 and _is_over(buckets[0], total, ask, at):
        total -= buckets.pop(0).total


def _is_over(oldest: Bucket, total: float, ask: BreakerAsk, at: float) -> bool:
    if 0 < ask.window_us <= at - oldest.since - ask.tick_us:
        return True
    return 0 < ask.window_calls <= total - oldest.total


# ---- the law -----------------------------------------------------------------------------------------------------


def judge(
    buckets: list[Bucket], row_since: float, askers: Sequence[Asker], ask: BreakerAsk, at: float
) -> tuple[int, float]:
    """Return why the breaker opens, and what was measured: failures in a row, or millionths; 0: it stays closed."""
    total = sum(one.total for one in buckets)
    failed = sum(one.failed for one in buckets)
    lately = at - ask.tick_us - ask.tick_us // 2
    row, seen = _row(row_since, askers) if _is_all(row_since, askers, lately) else (0, 0)
    silence = 0 if ask.sure == 0 else min(row, _silence(askers, lately))
    if row + silence >= ask.consecutive > 0 and (
        ask.sure == 0 or _is_proof(row, max(0, failed - seen), max(0, total - seen))
    ):
        return BY_CONSECUTIVE, row
    if total < ask.min_calls or not _is_quorum(buckets[0].since, askers):
        return 0, 0
    worst, worst_total = sum(one.worst for one in buckets), sum(one.worst_total for one in buckets)
    if _is_rate(failed, total, worst, worst_total, ask.failed_share, ask) and _is_sure(failed, total, ask):
        return BY_FAILURE_RATE, failed * MILLION // total
    slow = sum(one.slow for one in buckets)
    worst, worst_total = sum(one.slowest for one in buckets), sum(one.slowest_total for one in buckets)
    if _is_rate(slow, total, worst, worst_total, ask.slow_share, ask):
        return BY_SLOW_RATE, slow * MILLION // total
    return 0, 0


def _row(since: float, askers: Sequence[Asker]) -> tuple[float, float]:
    """
    Return how many failures in a row count, and how many there are.

    One asker's count up to as many as those of the others; calls that may still succeed count against them.
    """
    failures = longest = flying = 0.0
    for one in askers:
        if one.failing >= since:
            failures += one.failures
            longest = max(longest, one.failures)
            flying += one.flying
    return min(failures, 2 * (failures - longest)) - flying, failures


def _silence(askers: Sequence[Asker], lately: float) -> float:
    """Return how many calls hang, by what was reported lately: one asker's count up to as many as the others'."""
    late = longest = 0.0
    for one in askers:
        if one.seen >= lately:
            late += one.late
            longest = max(longest, one.late)
    return min(late, 2 * (late - longest))


def _is_all(since: float, askers: Sequence[Asker], lately: float) -> bool:
    """Return True if three quarters of those that have calls, by their last report, are in the row."""
    having = [one for one in askers if one.called == one.seen >= lately]
    called, failing = len(having), sum(one.failing >= since for one in having)
    return 4 * failing >= 3 * called


def _is_proof(row: float, failed: float, total: float) -> bool:
    """Return True if chance does not explain the row, by the share of failures in the window without it."""
    share, chance = (failed + 0.25) / (total + 1.0), 1.0
    for _ in range(int(min(row, MOST_PROOF))):
        chance = chance * share
    return chance <= 1e-6


def _is_quorum(since: float, askers: Sequence[Asker]) -> bool:
    """Return True if two, and a quarter of all that reported calls in the window, saw bad ones."""
    called = sum(one.called >= since for one in askers)
    bad = sum(one.bad >= since for one in askers)
    return bad >= 2 and 4 * bad >= called


def _is_rate(bad: float, total: float, worst: float, worst_total: float, rate: int, ask: BreakerAsk) -> bool:
    """Return True if the rate is reached, also without the worst askers; these weigh up to as much as the others."""
    if rate == 0 or total == worst_total or 2 * (total - worst_total) < ask.min_calls:
        return False
    return bad * MILLION >= rate * total and (bad - worst) * MILLION >= rate * (total - worst_total)


def _is_sure(failed: float, total: float, ask: BreakerAsk) -> bool:
    """Return True if the rate exceeds its limit by two standard errors, where the law asks for that."""
    share = failed / total
    return ask.sure == 0 or share - 2.0 * sqrt(share * (1.0 - share) / total) >= ask.failed_share / MILLION
