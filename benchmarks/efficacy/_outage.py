"""
One guard before one dependency on virtual time: down for minutes, cold, in part, or with too much to do.

`outage.py` makes tables of it. Calls arrive as a Poisson process, 100 a second. No event loop and no sleep: permits on
a virtual clock.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.efficacy._guards import Classic, ClientThrottle, GoZero, Guard, Kratos, Ours
from benchmarks.efficacy._recovery import Watch
from benchmarks.efficacy.breaker import virtual_clock
from resilio import circuit_breaker, keyed

__all__ = [
    "GUARDS",
    "MODES",
    "OURS",
    "RATE",
    "Make",
    "Traffic",
    "cold",
    "ours",
    "outage",
    "overload",
    "partial",
    "shards",
]

RATE = 100.0
HEALTHY = 0.01  # seconds that a good call takes
Make = Callable[[int], Guard]
Mode = Literal["window", "probabilistic"]
MODES: tuple[Mode, ...] = ("window", "probabilistic")
Dependency = Callable[[float], tuple[bool, float]]


def ours(mode: Mode, **options: Any) -> Make:
    """Return what makes the library's breaker, in one of its modes."""
    return lambda seed: Ours(circuit_breaker(mode=mode, **options), seed)


OURS: dict[str, Make] = {"circuit_breaker()": ours("window"), "the same, probabilistic": ours("probabilistic")}
GUARDS: dict[str, Make] = {
    **OURS,
    "the same, failure_rate=0.5": ours("window", failure_rate=0.5),
    "client throttle, K=2": lambda seed: ClientThrottle(seed, 2.0),
    "client throttle, K=1.1": lambda seed: ClientThrottle(seed, 1.1),
    "Kratos": Kratos,
    "go-zero": GoZero,
    "classic": Classic,
}


@dataclass
class Traffic:
    """
    Calls that arrive at random at one guard.

    Args:
        guard: Admits them.

        seed: Of the arrivals.

        dependency: Tells of an admitted call, at its start, whether it ends well, and its latency in seconds.

        served: Is told the time of each call, whether it was admitted, and whether it ended well.

        rate: Calls a second.
    """

    guard: Guard
    seed: int
    dependency: Dependency
    served: Callable[[float, bool, bool], None]
    rate: float = RATE
    now: float = 0.0
    _under_way: list[tuple[float, int, bool, Any, float]] = field(default_factory=list)
    _calls: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def run(self, until: float, stop: Callable[[float], bool] = lambda _: False) -> None:
        """Let calls arrive until that time, or until `stop(now)`; then let those under way end."""
        while not stop(self.now):
            self.now += self.random.expovariate(self.rate)
            if self.now >= until:
                break
            self._end(self.now)
            held = self.guard.ask(self.now)
            if held is None:
                self.served(self.now, False, False)
                continue
            good, latency = self.dependency(self.now)
            self._calls += 1
            heapq.heappush(self._under_way, (self.now + latency, self._calls, good, held, self.now))
        self._end(float("inf"))

    def _end(self, until: float) -> None:
        while self._under_way and self._under_way[0][0] <= until:
            at, _, good, held, begun = heapq.heappop(self._under_way)
            self.guard.end(held, good, at)
            self.served(begun, True, good)


@dataclass
class _Tally:
    """What became of the calls."""

    sent: int = 0
    good: int = 0
    rejected: int = 0

    def __call__(self, begun: float, admitted: bool, good: bool) -> None:  # noqa: ARG002
        self.sent += admitted
        self.good += good
        self.rejected += not admitted

    @property
    def calls(self) -> int:
        return self.sent + self.rejected


def outage(
    make: Make, latency: float, seed: int, *, length: float = 240.0, before: float = 10.0, longest: float = 60.0
) -> tuple[int, float]:
    """
    Return the calls sent into a total outage, and the seconds to the recovery, inf if that takes too long.

    Args:
        make: Makes the guard.

        latency: How long a failing call takes, in seconds.

        seed: Of this run.

        length: Of the outage, in seconds; up to 4 s are added, or the phase of the probes is the same in all runs.

        before: Seconds before the outage, in which all is well.

        longest: How long to wait for the recovery.
    """
    begin = before
    end = begin + length + random.Random(seed).uniform(0.0, 4.0)
    sent = 0
    watch = Watch(end)

    def served(begun: float, admitted: bool, good: bool) -> None:
        nonlocal sent
        sent += admitted and begin <= begun < end
        number = watch.begin(begun)
        if number >= 0:
            watch.served[number] = good
            watch.look(begun - latency - 1.0)

    with virtual_clock():
        traffic = Traffic(
            make(seed), seed, lambda now: (False, latency) if begin <= now < end else (True, HEALTHY), served
        )
        traffic.run(end + longest + 4.0 + latency, lambda _: watch.recovery is not None)
    return sent, float("inf") if watch.recovery is None else watch.recovery


class _Cold:
    """A server that comes back with a tenth of its capacity, and warms up in time; the queue is first in, first out."""

    full, timeout = 125.0, 1.0

    def __init__(self, end: float, warm_up: float) -> None:
        self.end, self.warm_up = end, warm_up
        self.free_at = end

    def capacity(self, now: float) -> float:
        """In calls a second."""
        return self.full * min(1.0, 0.1 + 0.9 * max(0.0, now - self.end) / self.warm_up)

    def __call__(self, now: float) -> tuple[bool, float]:
        """Work on every call to its end, whoever still waits for it."""
        if now < self.end:
            return False, 0.001
        self.free_at = max(self.free_at, now)
        self.free_at += 1 / self.capacity(self.free_at)
        took = self.free_at - now
        return (True, took) if took <= self.timeout else (False, self.timeout)


def cold(make: Make, seed: int, *, warm_up: float = 30.0) -> tuple[int, float]:
    """
    Return how often a breaker opened again after the outage, and the calls served over those that could have been.

    Args:
        make: Makes a guard; the openings are counted of the library's only.

        seed: Of this run.

        warm_up: Seconds in which the server comes from a tenth to all of its capacity.
    """
    end = 30.0
    server, tally = _Cold(end, warm_up), _Tally()
    trips = closings = 0

    def count(event: Any) -> None:
        nonlocal trips, closings
        closings += event.new == "closed"
        trips += event.new == "open" and event.old != "half_open" and closings > 0

    with virtual_clock():
        guard = make(seed)
        if isinstance(guard, Ours):
            guard.breaker.on_event(count)
        traffic = Traffic(
            guard, seed, server, lambda begun, admitted, good: tally(begun, admitted, good and begun >= end)
        )
        traffic.run(end + warm_up)
    steps = 1000
    could = sum(min(RATE, server.capacity(end + warm_up * (i + 0.5) / steps)) for i in range(steps)) * warm_up / steps
    return trips, tally.good / could


def partial(make: Make, failing: float, seed: int, *, seconds: float = 600.0) -> tuple[float, float]:
    """
    Return the shares rejected of the calls that would have succeeded, and of all, where a share fails for good.

    Args:
        make: Makes the guard.

        failing: The share of shards that are lost; nothing in a call tells to which it goes.

        seed: Of this run.

        seconds: How long that lasts, after 10 s in which all is well.
    """
    draw = random.Random(seed + 1_000_003)
    tally, rejected_good = _Tally(), 0
    fates: list[bool] = []

    class Fated:
        """Draws where a call goes before it is asked for, so that the fate of a rejected one is known."""

        def __init__(self, inner: Guard) -> None:
            self.inner, self.end = inner, inner.end

        def ask(self, now: float) -> Any:
            nonlocal rejected_good
            good = now < 10.0 or draw.random() >= failing
            fates.append(good)
            held = self.inner.ask(now)
            rejected_good += held is None and good and now >= 10.0
            return held

    def served(begun: float, admitted: bool, good: bool) -> None:
        if begun >= 10.0:
            tally(begun, admitted, good)

    with virtual_clock():
        traffic = Traffic(Fated(make(seed)), seed, lambda _: (fates[-1], HEALTHY), served)
        traffic.run(10.0 + seconds)
    return rejected_good / (rejected_good + tally.good), tally.rejected / tally.calls


def shards(mode: Mode, seed: int, *, seconds: float = 240.0) -> tuple[float, float]:
    """
    Return the share of calls served, and of all calls the share that went to a dead shard of ten, with `keyed`.

    Args:
        mode: Of the breakers, one for each shard.

        seed: Of this run.

        seconds: How long the shard is dead.
    """
    tally, dead = _Tally(), 0
    draw = random.Random(seed + 1_000_003)

    class Sharded:
        """Sends each call to a shard at random."""

        def __init__(self) -> None:
            per_shard = keyed(lambda: circuit_breaker(mode=mode), key=lambda shard: shard)
            self.of = [Ours(per_shard[shard], 10 * seed + shard) for shard in range(10)]
            self.shard = 0

        def ask(self, now: float) -> Any:
            self.shard = draw.randrange(10)
            return self.of[self.shard].ask(now)

        def end(self, held: Any, good: bool, now: float) -> None:
            self.of[0].end(held, good, now)  # a permit knows whose it is

    def dependency(_: float) -> tuple[bool, float]:
        nonlocal dead
        down = guard.shard == 0
        dead += down
        return not down, HEALTHY

    with virtual_clock():
        guard = Sharded()
        Traffic(guard, seed, dependency, tally).run(seconds)
    return tally.good / tally.calls, dead / tally.calls


def overload(make: Make, times: float, seed: int, *, seconds: float = 120.0) -> tuple[float, float]:
    """
    Return calls sent and calls served, over the capacity, where calls above the capacity are rejected by the server.

    Args:
        make: Makes the guard.

        times: The load over the capacity, which is 100 calls a second.

        seed: Of this run.

        seconds: How long to watch, after a minute.
    """
    tally, free = _Tally(), 0.0

    def dependency(now: float) -> tuple[bool, float]:
        nonlocal free
        if free - now > 0.1:
            return False, 0.001
        free = max(free, now) + 1 / RATE
        return True, HEALTHY

    def served(begun: float, admitted: bool, good: bool) -> None:
        if begun >= 60.0:
            tally(begun, admitted, good)

    with virtual_clock():
        Traffic(make(seed), seed, dependency, served, rate=times * RATE).run(60.0 + seconds)
    return tally.sent / seconds / RATE, tally.good / seconds / RATE
