"""
`python -m benchmarks.efficacy.outage`: R13, what goes into an outage, and how soon the dependency is served after it.

The library's breaker in both modes, and published designs beside it (see `_guards`), before one dependency that gets
100 calls a second: it is down for minutes; comes back cold; has lost a shard of ten, or half; has too much to do.
Calls arrive as a Poisson process. No event loop and no sleep: permits on a virtual clock.

Recovery is the time from the end of the outage to the first two seconds of whose calls 95 % are served.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.efficacy import _results
from benchmarks.efficacy._guards import Classic, ClientThrottle, GoZero, Guard, Kratos, Ours
from benchmarks.efficacy._recovery import Watch
from benchmarks.efficacy.breaker import virtual_clock
from resilio import circuit_breaker, keyed

__all__ = [
    "GUARDS",
    "OURS",
    "Traffic",
    "cold",
    "main",
    "outage",
    "overload",
    "partial",
    "shards",
    "tables",
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
    refused: int = 0

    def __call__(self, begun: float, admitted: bool, good: bool) -> None:  # noqa: ARG002
        self.sent += admitted
        self.good += good
        self.refused += not admitted

    @property
    def calls(self) -> int:
        return self.sent + self.refused


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
    Return the shares refused of the calls that would have succeeded, and of all, where a share fails for good.

    Args:
        make: Makes the guard.

        failing: The share of shards that are lost; nothing in a call tells to which it goes.

        seed: Of this run.

        seconds: How long that lasts, after 10 s in which all is well.
    """
    draw = random.Random(seed + 1_000_003)
    tally, refused_good = _Tally(), 0
    fates: list[bool] = []

    class Fated:
        """Draws where a call goes before it is asked for, so that the fate of a refused one is known."""

        def __init__(self, inner: Guard) -> None:
            self.inner, self.end = inner, inner.end

        def ask(self, now: float) -> Any:
            nonlocal refused_good
            good = now < 10.0 or draw.random() >= failing
            fates.append(good)
            held = self.inner.ask(now)
            refused_good += held is None and good and now >= 10.0
            return held

    def served(begun: float, admitted: bool, good: bool) -> None:
        if begun >= 10.0:
            tally(begun, admitted, good)

    with virtual_clock():
        traffic = Traffic(Fated(make(seed)), seed, lambda _: (fates[-1], HEALTHY), served)
        traffic.run(10.0 + seconds)
    return refused_good / (refused_good + tally.good), tally.refused / tally.calls


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
    Return calls sent and calls served, over the capacity, where calls above the capacity are refused by the server.

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


# ---- the tables ------------------------------------------------------------------------------------------------------


def _outages(runs: int) -> Iterator[tuple[str, ...]]:
    published = {
        "client throttle, K=2": "9,061; 1,550",
        "Kratos": "278; 13",
        "go-zero": "941; 37",
        "classic": "505; at most 30",
    }
    for latency in (0.001, 0.1, 1.0, 5.0):
        for name, make in OURS.items():
            for length in (60.0, 240.0):
                seen = [outage(make, latency, seed, length=length) for seed in range(1, runs + 1)]
                must = f"{100 + RATE * latency:.0f}; {3 + latency:g}" if length == 240 else "-"
                yield _outage_row(name, latency, length, runs, must, "-", seen)
    few = max(1, runs // 20)
    for name, make in GUARDS.items():
        if name not in OURS:
            seen = [outage(make, 0.01, seed, before=130.0, longest=20_000.0) for seed in range(1, few + 1)]
            yield _outage_row(name, 0.01, 240.0, few, "-", published.get(name, "-"), seen)


def _outage_row(
    name: str, latency: float, length: float, runs: int, must: str, published: str, seen: Any
) -> tuple[str, ...]:
    sent, recoveries = [calls for calls, _ in seen], [recovery for _, recovery in seen]
    figures = (
        f"{statistics.mean(sent):,.0f} ({max(sent):,}); {statistics.median(recoveries):.3g} ({max(recoveries):.4g})"
    )
    return name, f"{length:g}", f"{latency:g}", str(runs), must, published, figures


def _cold_rows(runs: int) -> Iterator[tuple[str, ...]]:
    rows: list[tuple[str, str, Make]] = [("nothing", "-", lambda seed: ClientThrottle(seed, 1e9))]
    for mode in MODES:
        rows += [(f"{mode}, no ramp", "-", ours(mode)), (f"{mode}, ramp=30", "0 re-trips", ours(mode, ramp=30.0))]
    for name, must, make in rows:
        seen = [cold(make, seed) for seed in range(1, runs + 1)]
        trips, goodput = zip(*seen, strict=True)
        yield name, str(runs), must, f"{statistics.mean(trips):.2f} ({max(trips)})", f"{statistics.mean(goodput):.3f}"


def _shard_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for mode in MODES:
        seen = [shards(mode, seed) for seed in range(1, runs + 1)]
        served, dead = (statistics.mean(values) for values in zip(*seen, strict=True))
        yield mode, str(runs), "89.9 %; 0.5 %", f"{served:.2%}; {dead:.2%}"


def _partial_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for name, make in GUARDS.items():
        cells = []
        for failing in (0.1, 0.3, 0.5, 0.6, 0.8):
            seen = [partial(make, failing, seed) for seed in range(1, runs + 1)]
            cells.append(f"{statistics.mean(good for good, _ in seen):.1%}")
        yield name, str(runs), *cells


def _overload_rows(runs: int) -> Iterator[tuple[str, ...]]:
    for name, make in GUARDS.items():
        cells = []
        for times in (1.5, 2.0, 4.0):
            seen = [overload(make, times, seed) for seed in range(1, runs + 1)]
            cells.append(" / ".join(f"{statistics.mean(values):.2f}" for values in zip(*seen, strict=True)))
        yield name, str(runs), *cells


def tables(runs: int) -> Iterator[str]:
    """
    Yield the tables in Markdown.

    Args:
        runs: Seeds of an outage; the other tables get by with fewer.
    """
    some, few = max(1, runs // 5), max(1, runs // 25)
    outage_header = (
        "guard",
        "outage, s",
        "a failure takes, s",
        "runs",
        "must: calls; s",
        "published",
        "calls, mean (max); s, median (max)",
    )
    yield _results.section(ABOUT, outage_header, _outages(runs))
    yield _results.section(COLD, ("breaker", "runs", "must", "opened again, mean (max)", "served"), _cold_rows(some))
    yield _results.section(SHARDS, ("mode", "runs", "must", "served; to the dead shard"), _shard_rows(some))
    yield _results.section(PARTIAL, ("guard", "runs", "10 % fail", "30 %", "50 %", "60 %", "80 %"), _partial_rows(few))
    yield _results.section(OVERLOAD, ("guard", "runs", "load 1.5", "2", "4"), _overload_rows(few))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What goes into an outage, and how soon it is over.")
    parser.add_argument("--runs", type=int, default=100, help="seeds of an outage (100)")
    parser.add_argument("--record", action="store_true", help="write the tables into benchmarks/RESULTS.md")
    options = parser.parse_args(arguments)
    text = "\n\n".join(tables(options.runs))
    print(text)
    if options.record:
        _results.record("R13 outage and recovery", text)


ABOUT = (
    "One client of 100 calls/s, a total outage of so many seconds and up to 4 more. Must: of 240 s at most 100 calls "
    "on average, and those of a failure's time, and recovery within 3 s and a failure's time; from the end of the "
    "outage to the first 2 s of whose calls 95 % are served. The published designs run with failures of 10 ms after "
    "130 s in which all is well, and their published figures are those of the study that chose the defaults, one seed "
    "each. Of the client throttle it gives 1,550 s, of which 1,040 by the formula W / (K - 1) ln(W r / K); that takes "
    "no account of the successes that leave the window while it recovers. They grow as exp(g t) with g W = K (1 - "
    "exp(-g W)), which for K = 2 makes 655 s, and for K = 1.1 5,900 s. Kratos and go-zero are back sooner here than "
    "there: 95 % of 2 s come sooner than 95 % for good."
)
COLD = (
    "A backend that comes back with a tenth of its capacity of 125 calls/s and takes 30 s to warm up, after 30 s of "
    "outage; calls wait in its queue, for a second at most, and it works on all of them to the end. Served: of what "
    "it could have served in those 30 s. Without a ramp the openings cost less than the ramp does, which stays below "
    "what the backend can do, but they are what it promises not to do."
)
SHARDS = (
    "One shard of ten is dead for 240 s, a breaker for each with `keyed`. Must: at least 89.9 % served, at most 0.5 % "
    "sent there."
)
PARTIAL = (
    "A share of shards is lost for ten minutes, one guard before all of them: the share refused of the calls that "
    "would have succeeded. Up to the limit of 50 % the probabilistic mode refuses next to none; above it as much as "
    "is above it, where the others end by refusing nearly all. The wish was at most 1 % at 50 %."
)
OVERLOAD = (
    "The price of that: a server that refuses at once what is above its capacity, at so many times the capacity. "
    "Calls sent / served, over the capacity. Here refusing is what helps, and the share of those sent cannot know; so "
    "the probabilistic mode sends the square root of twice the load, the client throttle twice the capacity. A limit "
    "or a shedder is what such a server needs."
)

if __name__ == "__main__":
    main()
