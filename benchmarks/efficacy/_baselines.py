"""
The baselines of R11: what others put before workers that may have too much to do, as each says it works.

Disciplines of a queue know how many workers there are. Their constants in seconds were made for services of some 10 ms,
and are given here in mean times of service: so each is tuned to the cell by somebody who knows it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from benchmarks.efficacy._queueing import Front, Workers

__all__ = [
    "BASELINES",
    "CoDel",
    "Fifo",
    "Gradient2",
    "Law",
    "Lifo",
    "Limit",
    "Queue",
    "Unbounded",
    "Vegas",
]


class Unbounded:
    """Let everybody in: the workers' own queue has no bound."""

    def attach(self, workers: Workers) -> None:
        """Begin."""
        self.arrive_at = workers.send

    def arrive(self, call: int, now: float) -> None:  # noqa: ARG002
        """Send it."""
        self.arrive_at(call)

    def ended(self, call: int, now: float) -> None:
        """Nothing."""


class Queue:
    """A queue before the workers, which lets in as many as there are workers; a subclass says who is next."""

    def attach(self, workers: Workers) -> None:
        """Begin."""
        self.workers = workers
        self.arrivals = workers.plan.arrivals
        self.free = workers.plan.workers
        self.waiting: deque[int] = deque()

    def arrive(self, call: int, now: float) -> None:
        """Send it if a worker is free, else let it wait."""
        if self.free:
            self.free -= 1
            self.workers.send(call)
        elif self.has_room(now):
            self.waiting.append(call)

    def ended(self, call: int, now: float) -> None:  # noqa: ARG002
        """Send the next."""
        following = self.next(now) if self.waiting else None
        if following is None:
            self.free += 1
        else:
            self.workers.send(following)

    def has_room(self, now: float) -> bool:  # noqa: ARG002
        """Return whether one more may wait."""
        return True

    def next(self, now: float) -> int | None:
        """Return who is next, None for nobody; some wait."""
        raise NotImplementedError


class Fifo(Queue):
    """
    First in, first out.

    Args:
        most: Who may wait.

        needs: Means that a call must have left when its turn comes; 0 drops the expired, None nobody.
    """

    def __init__(self, most: float = math.inf, needs: float | None = None) -> None:
        self.most = most
        self.needs = needs

    def has_room(self, now: float) -> bool:  # noqa: ARG002
        """Return whether one more may wait."""
        return len(self.waiting) < self.most

    def next(self, now: float) -> int | None:
        """Return the oldest that has the time."""
        waiting, plan = self.waiting, self.workers.plan
        if self.needs is None:
            return waiting.popleft()
        oldest = now + self.needs * plan.mean - plan.patience
        while waiting:
            call = waiting.popleft()
            if self.arrivals[call] >= oldest:
                return call
        return None


class Lifo(Queue):
    """Last in, first out, and nobody is dropped."""

    def next(self, now: float) -> int | None:  # noqa: ARG002
        """Return the youngest."""
        return self.waiting.pop()


class CoDel(Queue):
    """
    First in, first out with controlled delay as at Facebook: 5 ms, 100 ms and 10 ms where the mean is 10 ms.

    In an interval after one whose shortest delay was above the target, calls that have waited for twice the target are
    dropped.
    """

    TARGET, INTERVAL = 0.5, 10.0  # means

    def attach(self, workers: Workers) -> None:
        """Begin."""
        super().attach(workers)
        self.target, self.interval = self.TARGET * workers.plan.mean, self.INTERVAL * workers.plan.mean
        self.least, self.ends_at, self.overloaded = math.inf, 0.0, False

    def arrive(self, call: int, now: float) -> None:
        """Count the delay of one that does not wait."""
        if self.free:
            self.late(0.0, now)
        super().arrive(call, now)

    def next(self, now: float) -> int | None:
        """Return the oldest that is not dropped."""
        while self.waiting:
            call = self.waiting.popleft()
            if not self.late(now - self.arrivals[call], now):
                return call
        return None

    def late(self, delay: float, now: float) -> bool:
        """Return whether to drop a call that has waited for so long."""
        if now >= self.ends_at:
            self.overloaded = self.target < self.least < math.inf
            self.least, self.ends_at = delay, now + self.interval
            return False
        self.least = min(self.least, delay)
        return self.overloaded and delay > 2 * self.target


class Law:
    """A limit on what is under way that learns from the latencies; a subclass says how."""

    limit: float = 20.0

    def sample(self, latency: float, inflight: int, dropped: bool, now: float) -> None:
        """
        Learn from a call that has ended.

        Args:
            latency: Seconds from the admission to the end.

            inflight: Calls under way, itself included, when it was admitted.

            dropped: Whether it failed by overload: it took longer than its caller waited.

            now: Seconds.
        """


class Limit:
    """
    Let in as many as a law allows; others are rejected at once.

    Args:
        law: A law, or what makes a number of the number of workers.

        drops: Whether an answer that came too late counts as dropped.
    """

    def __init__(self, law: Law | Callable[[int], float], drops: bool = True) -> None:
        self.law = law
        self.drops = drops

    def attach(self, workers: Workers) -> None:
        """Begin."""
        self.send, self.patience = workers.send, workers.plan.patience
        self.arrivals = workers.plan.arrivals
        self.inflight = 0
        self.seen: dict[int, int] = {}
        self.learns = isinstance(self.law, Law)
        self.fixed = math.inf if isinstance(self.law, Law) else self.law(workers.plan.workers)

    def arrive(self, call: int, now: float) -> None:  # noqa: ARG002
        """Send it, or reject it for good."""
        if self.inflight < (self.law.limit if self.learns else self.fixed):  # type: ignore[union-attr]
            self.inflight += 1
            if self.learns:
                self.seen[call] = self.inflight
            self.send(call)

    def ended(self, call: int, now: float) -> None:
        """Learn from it."""
        self.inflight -= 1
        if self.learns:
            took = now - self.arrivals[call]
            self.law.sample(took, self.seen.pop(call), self.drops and took > self.patience, now)  # type: ignore[union-attr]


class Windowed(Law):
    """
    Averages over a second, where the mean is 10 ms, of ten samples at least: what both laws below are fed with.

    Args:
        window: Seconds.
    """

    def __init__(self, window: float) -> None:
        self.window, self.next_at = window, window
        self.total, self.count, self.most, self.drops = 0.0, 0, 0, False

    def sample(self, latency: float, inflight: int, dropped: bool, now: float) -> None:
        """Learn from the average, when the window is over."""
        self.total += latency
        self.count += 1
        self.most = max(self.most, inflight)
        self.drops |= dropped
        if now >= self.next_at and self.count >= 10:
            self.learn(self.total / self.count, self.most, self.drops)
            self.total, self.count, self.most, self.drops = 0.0, 0, 0, False
            self.next_at = now + self.window

    def learn(self, latency: float, inflight: int, dropped: bool) -> None:
        """Learn from a window: its average latency, the most that were under way, whether one was dropped."""
        raise NotImplementedError


class Gradient2(Windowed):
    """The `Gradient2Limit` of Netflix's concurrency-limits with its defaults: a short against a long average."""

    def __init__(self, window: float = 1.0) -> None:
        super().__init__(window)
        self.limit = 20.0
        self.long, self.warm = 0.0, 0

    def learn(self, latency: float, inflight: int, dropped: bool) -> None:  # noqa: ARG002
        """Compare the latency to its long average."""
        self.warm += 1
        self.long += (latency - self.long) * (1 / self.warm if self.warm <= 10 else 2 / 601)
        if self.long / latency > 2:
            self.long *= 0.95
        if inflight >= self.limit / 2:
            gradient = max(0.5, min(1.0, 1.5 * self.long / latency))
            self.limit = max(20.0, min(200.0, 0.8 * self.limit + 0.2 * (self.limit * gradient + 4)))


class Vegas(Windowed):
    """The `VegasLimit` of the same library with its defaults: the queue as the shortest latency tells it."""

    def __init__(self, window: float = 1.0) -> None:
        super().__init__(window)
        self.limit = 20.0
        self.least, self.probe_in = math.inf, 0.75 * 30 * 20

    def learn(self, latency: float, inflight: int, dropped: bool) -> None:
        """Move by the estimated queue."""
        self.probe_in -= 1
        if self.probe_in <= 0:
            self.probe_in, self.least = 0.75 * 30 * self.limit, latency
        elif latency < self.least:
            self.least = latency
        elif dropped or inflight * 2 >= self.limit:
            self.limit = max(1.0, min(1000.0, self.limit + self.change(latency, dropped)))

    def change(self, latency: float, dropped: bool) -> float:
        """Return by how much to move."""
        log = max(1, int(math.log10(self.limit)))
        queue = math.ceil(self.limit * (1 - self.least / latency))
        if dropped or queue > 6 * log:
            return -log
        if queue <= log:
            return 6 * log
        return log if queue < 3 * log else 0


BASELINES: dict[str, Callable[[float], Front]] = {
    "FIFO unbounded": lambda _: Unbounded(),
    "bounded queue 100": lambda _: Fifo(most=100),
    "drop expired": lambda _: Fifo(needs=0.0),
    "drop if < 3 means left": lambda _: Fifo(needs=3.0),
    "LIFO": lambda _: Lifo(),
    "CoDel-FB": lambda _: CoDel(),
    "limit = c": lambda _: Limit(lambda workers: workers),
    "limit = 2c": lambda _: Limit(lambda workers: 2 * workers),
    "Gradient2": lambda mean: Limit(Gradient2(100 * mean), drops=False),
    "Vegas": lambda mean: Limit(Vegas(100 * mean), drops=False),
}
"""What makes each, for a mean time of service."""
