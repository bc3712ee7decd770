"""What a rate limit has to do, in fractions and plain lists."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["Bucket", "LimiterOracle", "Window"]

Costs = tuple[Fraction, ...]


@dataclasses.dataclass
class Bucket:
    """Tokens that trickle in, up to *burst*."""

    per_ns: Fraction
    burst: Fraction
    tokens: Fraction = Fraction(-1)
    at_ns: int = 0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def fill(self, now_ns: int) -> None:
        self.tokens = min(self.burst, self.tokens + self.per_ns * (now_ns - self.at_ns))
        self.at_ns = now_ns

    def wait_ns(self, cost: Fraction) -> int:
        """Whole nanoseconds until *cost* is there, rounded up."""
        missing = cost - self.tokens
        return max(0, -(-missing // self.per_ns))

    def take(self, cost: Fraction) -> None:
        """Take *cost*, into debt if it is not there."""
        self.tokens -= cost

    def give_back(self, cost: Fraction, taken_ns: int | None) -> None:
        """Put *cost* back."""
        self.tokens = min(self.burst, self.tokens + cost)


@dataclasses.dataclass
class Window:
    """At most *burst* in any *period_ns*; costs are whole numbers."""

    burst: Fraction
    period_ns: int
    entries: list[tuple[int, Fraction]] = dataclasses.field(default_factory=list)
    at_ns: int = 0

    @property
    def tokens(self) -> Fraction:
        return self.burst - sum((amount for _, amount in self.entries), Fraction(0))

    def fill(self, now_ns: int) -> None:
        self.at_ns = now_ns
        self.entries = [entry for entry in self.entries if entry[0] > now_ns - self.period_ns]

    def wait_ns(self, cost: Fraction) -> int:
        """The first time at which what is still in the window leaves room for *cost*."""
        times = [self.at_ns, *(at_ns + self.period_ns for at_ns, _ in self.entries)]
        inside = {at: sum(n for t, n in self.entries if t > at - self.period_ns) for at in times}
        return min((at for at in times if inside[at] + cost <= self.burst), default=max(times)) - self.at_ns

    def take(self, cost: Fraction) -> None:
        """Take *cost*; there is room for 64 entries at least, more than a test makes."""
        if cost <= 0:
            return
        newest = self.entries[-1] if self.entries else None
        if newest and newest[0] == self.at_ns:
            self.entries[-1] = (self.at_ns, newest[1] + cost)
        else:
            self.entries.append((self.at_ns, cost))

    def give_back(self, cost: Fraction, taken_ns: int | None) -> None:
        """Put *cost* back where it was taken, or else take it off the oldest; what has left the window is back."""
        if taken_ns is not None and taken_ns <= self.at_ns - self.period_ns:
            return
        for entry in sorted(self.entries, key=lambda entry: (entry[0] != taken_ns, entry[0])):
            part = min(cost, entry[1])
            cost -= part
            at = self.entries.index(entry)
            self.entries[at] = (entry[0], entry[1] - part)
        self.entries = [entry for entry in self.entries if entry[1]]


@dataclasses.dataclass
class Waiting:
    key: int
    costs: Costs
    deadline_ns: int


class LimiterOracle:
    """
    The state of each call is in `fate`: "held", "queued", or why it was rejected; calls that ended are in none.

    `waits_ns` is how long a call would have had to wait when it came.
    """

    def __init__(self, buckets: Sequence[Bucket | Window], max_queued: int, max_wait_ns: int) -> None:
        self.buckets = list(buckets)
        self.taken_ns: dict[int, int] = {}
        self.max_queued = max_queued
        self.max_wait_ns = max_wait_ns
        self.now_ns = 0
        self.fate: dict[int, str] = {}
        self.costs: dict[int, Costs] = {}
        self.waits_ns: dict[int, int] = {}
        self.queue: list[Waiting] = []

    def arrive(self, key: int, costs: Costs, *, waits: bool, seen: str) -> None:
        """
        Decide on a call.

        Whether its wait is too long where that is a matter of rounding, the limiter decides: what it did is `seen`.
        """
        self.costs[key] = costs
        self._serve()
        self.fate[key] = self._decide(key, costs, waits, seen)

    @property
    def rounding_ns(self) -> int:
        """A nanosecond for each who is served before: service begins on whole ones, and a full bucket runs over."""
        return 1 + len(self.queue)

    def _decide(self, key: int, costs: Costs, waits: bool, seen: str) -> str:
        if any(cost > bucket.burst for cost, bucket in zip(costs, self.buckets, strict=True)):
            return "too_large"
        wait = self.waits_ns[key] = self.wait_ns(costs)
        if not self.queue and wait == 0:
            self._take(key, costs)
            return "held"
        over = wait - self.max_wait_ns
        late = seen == "rate" if abs(over) <= self.rounding_ns else over > 0
        if late or not self.max_queued:
            return "rate"
        if len(self.queue) >= self.max_queued:
            return "queue_full"
        if not waits:
            return "rate"
        self.queue.append(Waiting(key, costs, self.now_ns + self.max_wait_ns))
        return "queued"

    def wait_ns(self, costs: Costs) -> int:
        """Play the future through: all in the queue are served as soon as they can be, and then this one."""
        buckets = copy.deepcopy(self.buckets)
        now_ns = self.now_ns
        for wanted in [waiting.costs for waiting in self.queue] + [costs]:
            now_ns += max(bucket.wait_ns(cost) for bucket, cost in zip(buckets, wanted, strict=True))
            for bucket, cost in zip(buckets, wanted, strict=True):
                bucket.fill(now_ns)
                bucket.take(cost)
        return now_ns - self.now_ns

    def end(self, key: int) -> None:
        """The call ends; its tokens are spent."""
        del self.fate[key]

    def cancel(self, key: int) -> None:
        """The callee was never called: what was taken goes back, and who waits in vain leaves."""
        if self.fate.pop(key) == "held":
            for bucket, cost in zip(self.buckets, self.costs[key], strict=True):
                bucket.give_back(cost, self.taken_ns[key])
        self.queue = [waiting for waiting in self.queue if waiting.key != key]
        self._serve()

    def adjust(self, costs: Costs) -> None:
        for bucket, cost in zip(self.buckets, costs, strict=True):
            if cost < 0:
                bucket.give_back(-cost, None)
            else:
                bucket.take(cost)
        self._serve()

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        for bucket in self.buckets:
            bucket.fill(self.now_ns)
        self._serve()
        for waiting in list(self.queue):
            if waiting.deadline_ns <= self.now_ns and self.fate[waiting.key] == "queued":
                self.fate[waiting.key] = "wait"
                self.queue.remove(waiting)
                self._serve()

    def _take(self, key: int, costs: Costs) -> None:
        self.taken_ns[key] = self.now_ns
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.take(cost)

    def _serve(self) -> None:
        while self.queue and all(
            cost <= bucket.tokens for bucket, cost in zip(self.buckets, self.queue[0].costs, strict=True)
        ):
            self._take(self.queue[0].key, self.queue[0].costs)
            self.fate[self.queue.pop(0).key] = "held"
