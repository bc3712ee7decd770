"""The breaker's probabilistic mode written for reading: what the native gate is checked against."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from oracles.breaker import SECOND, BreakerOracle, Outcome, Rejected, Ticket, is_proof

__all__ = ["Followed", "ThrottleOracle"]

LONGEST_NS = 60 * SECOND


@dataclass(frozen=True)
class Followed(Ticket):
    """A call that is looked after; its place is never 0."""

    place: int = 0


@dataclass
class ThrottleOracle(BreakerOracle):
    """As the breaker, but that a rate throttles: in the state "throttling", which the native one calls half open."""

    proof: int = 1
    good_in_a_row: int = 0
    sent_ns: int = 0
    half: int = 0
    half_end_ns: int = 0
    last_place: int = 0
    under_way: dict[int, int] = field(default_factory=dict)  # call -> half-period in which it began
    answered: Counter[int] = field(default_factory=Counter)  # half-period -> answers that came in it

    @property
    def overdue(self) -> int:
        """How many calls are under way that began before this half-period and the one before."""
        return sum(half < self.half - 1 for half in self.under_way.values())

    @property
    def failure_rate(self) -> float:
        """The limit of failures; one that is off is never reached."""
        return 1e9 if self.options.failure_rate is None else self.options.failure_rate

    def share(self, now_ns: int) -> float:
        """Return the share of calls that may pass."""
        seen, late = self.window(now_ns), self.overdue
        total = len(seen) + late
        if total < self.options.min_calls:
            return 1.0
        share = _share(sum(failed for _, failed, _ in seen) + late, total, self.failure_rate)
        if self.options.slow_ns is None:
            return share
        return min(share, _share(sum(slow for *_, slow in seen), total, self.options.slow_rate))

    def admit(self, now_ns: int) -> Ticket | Rejected:
        """Decide about a call at `now_ns`."""
        if self.state in ("closed", "throttling") and now_ns >= self.half_end_ns:
            self._turn(now_ns)
        if self.state == "throttling":
            share = self.share(now_ns)
            if share < 1 and self.uniform() >= share and now_ns - self.sent_ns < self.options.max_open_ns:
                return self._reject("throttled", self.options.open_ns)
            self.sent_ns = now_ns
        answer = super().admit(now_ns)
        if isinstance(answer, Rejected) or answer.shadow or self.state not in ("closed", "throttling"):
            return answer
        self.last_place += 1
        self.under_way[self.last_place] = self.half
        return Followed(answer.generation, ramped=answer.ramped, number=answer.number, place=self.last_place)

    def settle(self, ticket: Ticket, outcome: Outcome, latency_ns: int, now_ns: int) -> None:
        """Learn from how an admitted call ended."""
        if self._forget(ticket):
            self.answered[self.half] += outcome != "failure"
        super().settle(ticket, outcome, latency_ns, now_ns)

    def leave(self, ticket: Ticket, latency_ns: int, now_ns: int) -> None:
        """Take note of a caller who waits no longer: that is no answer."""
        self._forget(ticket)
        super().leave(ticket, latency_ns, now_ns)

    def _note_left(self, number: int, now_ns: int) -> None:
        if self.wave is not None:
            self.wave.add(number, failed=False)
        if not self._extend_row(number, now_ns):
            return
        self.left += 1
        self.left_ns = now_ns
        if self.state in ("closed", "throttling"):
            self._all_fail(self._run(now_ns), now_ns)

    def cancel(self, ticket: Ticket) -> None:
        """Take back an admission: the callee was never called."""
        self._forget(ticket)
        super().cancel(ticket)

    def _forget(self, ticket: Ticket) -> bool:
        return isinstance(ticket, Followed) and self.under_way.pop(ticket.place, None) is not None

    def _turn(self, now_ns: int) -> None:
        after_ns = min(max(SECOND, 2 * self.p99_ns(), self.options.slow_ns or 0), LONGEST_NS)
        self.half += 2 if self.half and now_ns - self.half_end_ns >= after_ns else 1
        self.half_end_ns = now_ns + after_ns
        if self.overdue and not self.answered[self.half - 1]:
            self._all_fail(self.in_a_row + self.overdue, now_ns) or self._throttle(now_ns)

    def _enter(self, state: str, reason: str) -> None:
        super()._enter(state, reason)
        self.under_way = {}
        self.answered.clear()
        self.half += 2
        self.good_in_a_row = 0

    def _needed(self) -> int:
        return 1  # it opens on total failure: one success ends that

    def _record(self, failed: bool, slow: bool, now_ns: int) -> None:
        self.outcomes.append((now_ns, failed, slow))
        if self.state not in ("closed", "throttling"):
            return
        self.good_in_a_row = 0 if failed or slow else self.good_in_a_row + 1
        if failed and self._all_fail(self._run(now_ns), now_ns):
            return
        if self.state == "throttling" and self._all_succeed(now_ns):
            self.outcomes = []
        if self.state == "throttling" or failed or slow:
            self._throttle(now_ns)

    def _all_fail(self, run: int, now_ns: int) -> bool:
        seen, late = self.window(now_ns), self.overdue
        failed = sum(failed for _, failed, _ in seen) + late
        if self.options.consecutive is None or run < self.options.consecutive:
            return False
        if not is_proof(run, failed, len(seen) + late):
            return False
        self._open("consecutive", now_ns)
        return True

    def _all_succeed(self, now_ns: int) -> bool:
        seen, run = self.window(now_ns), self.good_in_a_row
        good = len(seen) - max(sum(failed for _, failed, _ in seen), sum(slow for *_, slow in seen))
        return (
            self.options.consecutive is not None and run >= self.options.consecutive and is_proof(run, good, len(seen))
        )

    def _throttle(self, now_ns: int) -> None:
        share = self.share(now_ns)
        if self.state == "closed" and share < 1:
            self._move("throttling", "slow_rate" if self._mostly_slow(now_ns) else "failure_rate")
            self.sent_ns = now_ns
        elif self.state == "throttling" and self._relieved(now_ns):
            self._move("closed", "recovered")

    def _move(self, state: str, reason: str) -> None:
        self.changes.append((self.state, state, reason))
        self.state = state
        self.good_in_a_row = 0

    def _mostly_slow(self, now_ns: int) -> bool:
        seen = self.window(now_ns)
        failed = sum(failed for _, failed, _ in seen) + self.overdue
        return failed * self.options.slow_rate < sum(slow for *_, slow in seen) * self.failure_rate

    def _relieved(self, now_ns: int) -> bool:
        seen, late = self.window(now_ns), self.overdue
        total, chosen = len(seen) + late, self.options
        if total < chosen.min_calls:
            return True
        failed = sum(failed for _, failed, _ in seen) + late
        slow = sum(slow for *_, slow in seen)
        if self.failure_rate < 1 and failed / total >= 0.8 * self.failure_rate:
            return False
        return chosen.slow_ns is None or chosen.slow_rate >= 1 or slow / total < 0.8 * chosen.slow_rate


def _share(bad: int, total: int, limit: float) -> float:
    if limit >= 1 or not total:
        return 1.0
    ratio = bad / total
    sure = ratio - math.sqrt(ratio * (1 - ratio) / total)
    return 1.0 if sure <= limit else (1 - sure) / (1 - limit)
