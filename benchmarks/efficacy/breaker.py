"""
`python -m benchmarks.efficacy.breaker`: what the circuit breaker's defaults achieve, beside the published figures.

The real breaker runs on virtual time: calls arrive as a Poisson process, what is admitted ends after its latency, and
the breaker never knows that nobody was called. No event loop, no sleep: a day at 100 calls a second takes seconds.

Each figure is a row: what, published, seen. The published ones are the medians, means or maxima of the study that chose
the options; how close they have to be is in `test_breaker_figures.py`. The rows "rate alone" are what
they were chosen over; the study's breaker had another jitter there. Its breaker opened at a failure rate of a half:
those rows are of `failure_rate=0.5`, and the defaults stand beside them.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from resilio import CircuitBreaker, circuit_breaker
from resilio._native import clock

__all__ = ["Traffic", "blip", "detection", "false_trips", "main", "outage", "recoveries", "table"]

SECOND = 1_000_000_000
DAY = 86400.0
HALF = {"failure_rate": 0.5}
RATE_ALONE = {**HALF, "consecutive": None, "window": 100, "min_calls": 10}
HEALTHY_LATENCY = 0.01


@contextmanager
def virtual_clock() -> Iterator[None]:
    """Time stands at zero, and is real again at the end."""
    clock.set_virtual(0)
    try:
        yield
    finally:
        clock.clear_virtual()


@dataclass
class Traffic:
    """
    Calls that arrive at random and go through one breaker.

    Args:
        breaker: The real one.

        rate: Calls per second.

        seed: Of the arrivals and of the breaker's jitter.

        verdict: Decides about an admitted call at its start: whether it ends well, and its latency in seconds.
    """

    breaker: CircuitBreaker
    rate: float
    seed: int
    verdict: Callable[[float], tuple[bool, float]]
    now: float = 0.0
    admitted: int = 0
    rejected: int = 0
    _under_way: list[tuple[int, int, bool, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.breaker._gate._seed(self.seed * 2654435761 + 1)  # type: ignore[attr-defined]

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let calls arrive until that time, or until `stop()` after a call."""
        while not stop():
            arrival = self.now + self.random.expovariate(self.rate)
            if arrival >= until:  # arrivals have no memory: the next stretch draws its own
                self._end_calls(round(until * SECOND), stop)
                self.now = until
                return
            if self._end_calls(round(arrival * SECOND), stop):
                return
            self.now = arrival
            self._arrive(round(arrival * SECOND))

    def _arrive(self, now_ns: int) -> None:
        clock.set_virtual(now_ns)
        permit = self.breaker.try_acquire()
        if not permit.admitted:
            self.rejected += 1
            return
        self.admitted += 1
        good, latency = self.verdict(self.now)
        if latency:
            heapq.heappush(self._under_way, (now_ns + round(latency * SECOND), self.admitted, good, permit))
        else:
            (permit.success if good else permit.failure)()

    def _end_calls(self, until_ns: int, stop: Callable[[], bool]) -> bool:
        while self._under_way and self._under_way[0][0] <= until_ns:
            at_ns, _, good, permit = heapq.heappop(self._under_way)
            clock.set_virtual(at_ns)
            (permit.success if good else permit.failure)()
            self.now = at_ns / SECOND
            if stop():
                return True
        return False


def _is(breaker: CircuitBreaker, state: str) -> Callable[[], bool]:
    return lambda: breaker.state == state


def outage(latency: float, seed: int, *, length: float = 240.0, rate: float = 100.0) -> tuple[int, float]:
    """
    Return the calls sent into a total outage, and the seconds from its end to the breaker's closing.

    Args:
        latency: How long a failing call takes, in seconds; a healthy one takes 10 ms.

        seed: Of this run.

        length: Of the outage, in seconds.

        rate: Calls per second.
    """
    with virtual_clock():
        breaker = circuit_breaker()
        begin = 10.0
        end = begin + length
        traffic = Traffic(
            breaker, rate, seed, lambda now: (False, latency) if begin <= now < end else (True, HEALTHY_LATENCY)
        )
        traffic.run(begin)
        before = traffic.admitted
        traffic.run(end)
        sent = traffic.admitted - before
        traffic.run(end + 60.0, _is(breaker, "closed"))
        return sent, traffic.now - end


def recoveries(latency: float, seeds: range) -> list[float]:
    """Return the recovery of outages of 9 to 13 s: their lengths must vary, or the probes' phase locks."""
    lengths = random.Random(seeds.start)
    return [outage(latency, seed, length=lengths.uniform(9.0, 13.0))[1] for seed in seeds]


def detection(rate: float, seed: int, *, before: float, after: float, **options: Any) -> float:
    """
    Return the seconds from a step in the failure rate to the breaker's opening.

    Args:
        rate: Calls per second.

        seed: Of this run.

        before: Failure rate until the step; the window is full of it.

        after: Failure rate from then on.

        options: Of the breaker, where they are not the defaults.
    """
    with virtual_clock():
        breaker = circuit_breaker(**options)
        step = 400 / rate
        traffic = Traffic(
            breaker, rate, seed, lambda now: (traffic.random.random() >= (before, after)[now >= step], 0.0)
        )
        traffic.run(step)
        traffic.run(step + 1000.0, _is(breaker, "open"))
        return traffic.now - step


def false_trips(failing: float, seed: int, *, seconds: float = DAY, **options: Any) -> tuple[float, float]:
    """
    Return the openings a day (re-openings included) at a steady failure rate, and the share of calls rejected.

    Args:
        failing: The true failure rate.

        seed: Of this run.

        seconds: How long to watch, at 100 calls a second.

        options: Of the breaker, where they are not the defaults.
    """
    with virtual_clock():
        breaker = circuit_breaker(**options)
        trips = 0

        def count(event: Any) -> None:
            nonlocal trips
            trips += event.new == "open"

        unsubscribe = breaker.on_event(count)
        traffic = Traffic(breaker, 100.0, seed, lambda _: (traffic.random.random() >= failing, 0.0))
        traffic.run(seconds)
        unsubscribe()
        return trips * DAY / seconds, traffic.rejected / (traffic.admitted + traffic.rejected)


def blip(seed: int, **options: Any) -> int:
    """Return the calls rejected because of a total failure of 100 ms at 1,000 calls a second."""
    with virtual_clock():
        breaker = circuit_breaker(**options)
        traffic = Traffic(breaker, 1000.0, seed, lambda now: (not 1.0 <= now < 1.1, 0.001))
        traffic.run(5.0)
        return traffic.rejected


def _median(function: Callable[..., float], runs: int, *args: Any, **options: Any) -> float:
    return statistics.median(function(*args, seed, **options) for seed in range(1, runs + 1))


def table(runs: int, days: float) -> Iterator[tuple[str, str, str]]:
    """
    Yield the rows: what, published, seen.

    Args:
        runs: Seeds of each figure.

        days: Days of steady failures to watch.
    """
    published = {0.001: ("95 (97)", 2.9), 0.1: ("102 (109)", 3.05), 1.0: ("173 (194)", 3.85)}
    for latency, (sent, recovered) in published.items():
        seen = [outage(latency, seed) for seed in range(1, runs + 1)]
        calls = [count for count, _ in seen]
        label = f"failures of {latency:g} s"
        yield f"calls sent into 240 s, {label}, mean (max)", sent, f"{statistics.mean(calls):.0f} ({max(calls)})"
        slowest = max([recovery for _, recovery in seen] + recoveries(latency, range(1, 4 * runs + 1)))
        yield f"recovery, {label}, max", f"{recovered:g} s", f"{slowest:.2f} s"
    for name, options, figures in (
        ("total failure, rate alone (window 100)", RATE_ALONE, (4.9, 0.49, 0.049)),
        ("total failure, defaults", {}, (0.94, 0.096, 0.009)),
    ):
        for rate, figure in zip((10, 100, 1000), figures, strict=True):
            seen_for = _median(detection, 20 * runs, rate, before=0.01, after=1.0, **options)
            yield f"detection at {rate} calls/s: {name}", f"{figure:g} s", f"{seen_for:.3g} s"
    for name, options in (("window 100", RATE_ALONE), ("failure_rate=0.5", HALF)):
        for rate, figure in ((10, 8.2), (100, 0.83), (1000, 0.08)):
            seen_for = _median(detection, 20 * runs, rate, before=0.01, after=0.6, **options)
            wanted = f"{figure:g} s" if options is RATE_ALONE else f"about {2 * figure:g} s"
            yield f"detection at {rate} calls/s: 1 to 60 %, {name}", wanted, f"{seen_for:.3g} s"
    for name, options, published_trips in (
        ("rate alone, open_for=1", {**RATE_ALONE, "open_for": 1.0}, ("0", "57", "26,900 (48 %)")),
        ("failure_rate=0.5", HALF, ("1.8", "75", "5,300 (4.3 %)")),
        ("defaults", {}, ("-", "-", "-", "-", "-")),
    ):
        for failing, figure_text in zip((0.2, 0.3, 0.4, 0.5, 0.6), published_trips, strict=False):
            trips, rejected = false_trips(failing, 1, seconds=days * DAY, **options)
            yield (
                f"false trips a day at {failing:.0%}: {name} (rejected)",
                figure_text,
                f"{trips:,.1f} ({rejected:.1%})",
            )
    for open_for, figure_rejected in ((1.0, "950"), (0.2, "190")):
        seen_rejected = _median(blip, 5 * runs, open_for=open_for)
        yield f"calls rejected by a blip of 100 ms, open_for={open_for:g}", figure_rejected, f"{seen_rejected:.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The circuit breaker's efficacy, beside the published figures.")
    parser.add_argument("--runs", type=int, default=10, help="seeds of each figure (10)")
    parser.add_argument("--days", type=float, default=1.0, help="days of steady failures to watch (1)")
    options = parser.parse_args()
    print(f"Seeds 1 to {options.runs}; {options.days:g} days of steady failures.\n")
    print("| what | published | seen |\n|---|---|---|")
    for row in table(options.runs, options.days):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
