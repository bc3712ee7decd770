"""What a rate limit has to do, in fractions and plain lists."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction

__all__ = ["Bucket", "LimiterOracle"]

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


@dataclasses.dataclass
class Waiting:
    key: int
    costs: Costs
    deadline_ns: int


class LimiterOracle:
    """
    The state of each call is in `fate`: "held", "queued", or why it was refused; calls that ended are in none.

    `waits_ns` is how long a call would have had to wait when it came.
    """

    def __init__(self, buckets: list[Bucket], max_queued: int, max_wait_ns: int) -> None:
        self.buckets = buckets
        self.max_queued = max_queued
        self.max_wait_ns = max_wait_ns
        self.now_ns = 0
        self.fate: dict[int, str] = {}
        self.costs: dict[int, Costs] = {}
        self.waits_ns: dict[int, int] = {}
        self.queue: list[Waiting] = []

    def arrive(self, key: int, costs: Costs, *, waits: bool) -> None:
        self.costs[key] = costs
        self._serve()
        self.fate[key] = self._decide(key, costs, waits)

    def _decide(self, key: int, costs: Costs, waits: bool) -> str:
        if any(cost > bucket.burst for cost, bucket in zip(costs, self.buckets, strict=True)):
            return "too_large"
        wait = self.waits_ns[key] = self.wait_ns(costs)
        if not self.queue and wait == 0:
            self._take(costs)
            return "held"
        if wait > self.max_wait_ns or not self.max_queued:
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
                bucket.tokens -= cost
        return now_ns - self.now_ns

    def end(self, key: int) -> None:
        """The call ends; its tokens are spent."""
        del self.fate[key]

    def cancel(self, key: int) -> None:
        """The callee was never called: what was taken goes back, and who waits in vain leaves."""
        if self.fate.pop(key) == "held":
            self.adjust(tuple(-cost for cost in self.costs[key]))
        self.queue = [waiting for waiting in self.queue if waiting.key != key]
        self._serve()

    def adjust(self, costs: Costs) -> None:
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.tokens = min(bucket.burst, bucket.tokens - cost)
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

    def _take(self, costs: Costs) -> None:
        for bucket, cost in zip(self.buckets, costs, strict=True):
            bucket.tokens -= cost

    def _serve(self) -> None:
        while self.queue and all(
            cost <= bucket.tokens for bucket, cost in zip(self.buckets, self.queue[0].costs, strict=True)
        ):
            self._take(self.queue[0].costs)
            self.fate[self.queue.pop(0).key] = "held"
