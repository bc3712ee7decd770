"""
Calls that arrive at workers through a front which decides who is let in: a heap of events, in virtual seconds.

A front is a discipline of a queue, a limit on what is under way, or the real policy. It hands calls to the workers,
which have a queue of their own, first come first served: a front that hands over more than there are workers makes
calls wait there.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Any, Protocol

__all__ = ["NEVER", "Front", "Plan", "Results", "Step", "Workers", "exponential", "lognormal", "plan", "serve"]

NEVER = math.inf
Draw = Callable[[random.Random], float]


class Front(Protocol):
    """What stands before the workers; it gets them by `attach`, and calls `workers.send(call)` for whom it lets in."""

    def attach(self, workers: Workers) -> None:
        """Begin; nothing has arrived."""
        ...

    def arrive(self, call: int, now: float) -> None:
        """Take a new call: send it now or later, or never."""
        ...

    def ended(self, call: int, now: float) -> None:
        """Hear that a call has ended that was sent."""
        ...


@dataclass(frozen=True)
class Step:
    """
    A time in which the work takes longer.

    Attributes:
        begin: In seconds.

        end: In seconds.

        times: How many times as long.
    """

    begin: float = NEVER
    end: float = NEVER
    times: float = 1.0


@dataclass(frozen=True)
class Plan:
    """
    What will happen, drawn in advance: so all fronts meet the same calls.

    Attributes:
        workers: How many calls are worked on at a time.

        mean: Of the times of service, in seconds.

        patience: Seconds after which an answer is worth nothing.

        arrivals: When the calls come.

        sizes: How long each works, in seconds, outside of a slow step.

        load: What comes, as a share of what the workers can serve.

        step: A slow step.
    """

    workers: int
    mean: float
    patience: float
    arrivals: Sequence[float]
    sizes: Sequence[float]
    load: float
    step: Step = field(default_factory=Step)


@dataclass(frozen=True)
class Results:
    """
    When each call ended, infinite if it was not served.

    Attributes:
        plan: What was served.

        ends: By call.
    """

    plan: Plan
    ends: Sequence[float]

    def goodput(self, begin: float, end: float) -> float:
        """
        Return the calls that came in a time and were served in time, as a share of what the workers can serve.

        It is the share of the workers' time that they worked for those calls, times the share of them served in time:
        the same as their number by that of an average run of the workers, but less subject to the sizes drawn.
        """
        plan, good, served, work = self.plan, 0, 0, 0.0
        for at, ended, size in zip(plan.arrivals, self.ends, plan.sizes, strict=True):
            if begin <= at < end and ended < NEVER:
                served += 1
                work += size
                good += ended - at <= plan.patience
        if plan.load < 1:
            work = served * plan.mean
        return good * work / (max(1, served) * plan.workers * (end - begin))

    def quantile(self, q: float, begin: float = 0.0, end: float = NEVER) -> float:
        """Return a quantile of the latency of the calls that were served, late ones too, in seconds."""
        pairs = zip(self.plan.arrivals, self.ends, strict=True)
        seen = sorted(ended - at for at, ended in pairs if begin <= at < end and ended < NEVER)
        return seen[min(len(seen) - 1, math.ceil(q * len(seen)) - 1)] if seen else math.nan

    def served(self, begin: float, end: float) -> float:
        """Return the share of the calls that came in a time and were served."""
        pairs = [ended < NEVER for at, ended in zip(self.plan.arrivals, self.ends, strict=True) if begin <= at < end]
        return sum(pairs) / max(1, len(pairs))


class Workers:
    """
    Workers with a queue, and the events to come.

    Args:
        plan: The calls; a front may read the fields of it that it is to know.
    """

    __slots__ = ("_events", "_free", "_number", "_queue", "ends", "now", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.now = 0.0
        self.ends = [NEVER] * len(plan.arrivals)
        self._free = plan.workers
        self._queue: deque[int] = deque()
        self._events: list[tuple[float, int, Any]] = []
        self._number = 0

    def send(self, call: int) -> None:
        """Take a call that the front lets in."""
        if self._free:
            self._free -= 1
            self._start(call)
        else:
            self._queue.append(call)

    def at(self, when: float, callback: Callable[[], object]) -> None:
        """Call the front back at a time."""
        self._number += 1
        heappush(self._events, (when, self._number, callback))

    def _start(self, call: int) -> None:
        plan, now = self.plan, self.now
        size = plan.sizes[call]
        if plan.step.begin <= now < plan.step.end:
            size *= plan.step.times
        self._number += 1
        heappush(self._events, (now + size, self._number, call))

    def run(self, front: Front, until: float) -> None:
        """Let everything happen that is due before a time."""
        events, ended = self._events, front.ended
        while events and events[0][0] <= until:
            self.now, _, what = heappop(events)
            if not isinstance(what, int):
                what()
                continue
            self.ends[what] = self.now
            if self._queue:
                self._start(self._queue.popleft())
            else:
                self._free += 1
            ended(what, self.now)
        self.now = until


def serve(front: Front, plan: Plan) -> Results:
    """
    Let a front serve a plan, and return what came of it.

    Args:
        front: Fresh; it is attached here.

        plan: The calls.
    """
    workers = Workers(plan)
    front.attach(workers)
    arrive, run, events = front.arrive, workers.run, workers._events
    at = 0.0
    for call, at in enumerate(plan.arrivals):
        if events and events[0][0] <= at:
            run(front, at)
        else:
            workers.now = at
        arrive(call, at)
    run(front, at + 3 * plan.patience)
    return Results(plan, workers.ends)


def exponential(mean: float) -> Draw:
    """Return how to draw from the exponential law."""
    return partial(_exponential, mean)


def lognormal(mean: float, cv: float) -> Draw:
    """Return how to draw from the lognormal law with a coefficient of variation."""
    sigma = math.sqrt(math.log(1 + cv * cv))
    mu = math.log(mean) - sigma * sigma / 2
    return partial(_lognormal, mu, sigma)


def _exponential(mean: float, draw: random.Random) -> float:
    return draw.expovariate(1.0) * mean


def _lognormal(mu: float, sigma: float, draw: random.Random) -> float:
    return math.exp(draw.gauss(mu, sigma))


def plan(
    workers: int,
    mean: float,
    law: Draw,
    load: float,
    until: float,
    seed: int,
    patience: float = 10.0,
    step: Step | None = None,
) -> Plan:
    """
    Draw calls: Poisson arrivals at a share of what the workers can serve.

    Args:
        workers: How many.

        mean: Of the law, in seconds.

        law: Of the times of service.

        load: The share.

        until: When the last call comes, in seconds.

        seed: Of everything.

        patience: In means.

        step: A slow step.
    """
    draw = random.Random(seed)
    gap, now = mean / (workers * load), 0.0
    arrivals: list[float] = []
    sizes: list[float] = []
    while (now := now + draw.expovariate(1.0) * gap) < until:
        arrivals.append(now)
        sizes.append(law(draw))
    return Plan(workers, mean, patience * mean, arrivals, sizes, load, step or Step())
