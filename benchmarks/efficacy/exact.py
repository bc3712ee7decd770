"""
`python -m benchmarks.efficacy.exact`: gates whose behaviour queueing theory gives in closed form.

A bulkhead without a queue rejects as Erlang's formula B says, one with a queue rejects and lets wait as the M/M/c/K
queue does, and a rate limit (GCRA) decides call by call as a token bucket counted in exact fractions. Calls arrive as a
Poisson process and hold their permits for exponential times of mean 1. The gates are the library's, on virtual time.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from benchmarks.efficacy import _results
from benchmarks.efficacy.breaker import virtual_clock
from resilio import BulkheadFullError, bulkhead, rate_limit
from resilio._native import clock
from resilio.testing import virtual_time

__all__ = ["LOSSES", "QUEUES", "bucket", "differing", "erlang_b", "loss", "main", "mmck", "queue", "table"]

SECOND = 1_000_000_000
LOSSES = ((10, 8, 4), (10, 10, 2), (10, 15, 1), (20, 16, 8), (20, 30, 1), (50, 75, 1), (100, 90, 24), (100, 150, 1))
QUEUES = (5, 10, 20)


def erlang_b(servers: int, load: float) -> float:
    """Return the share of calls that find all servers busy and go away, at a load in servers."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked


def mmck(servers: int, places: int, load: float) -> tuple[float, float, float]:
    """
    Return the share rejected, the utilisation, and the mean wait of those admitted in mean times of service.

    Args:
        servers: How many work.

        places: How many may wait.

        load: In servers.
    """
    weights = [1.0]
    for k in range(1, servers + places + 1):
        weights.append(weights[-1] * load / min(k, servers))
    total = sum(weights)
    rejected = weights[-1] / total
    waiting = sum((k - servers) * weight for k, weight in enumerate(weights) if k > servers) / total
    admitted = load * (1 - rejected)
    return rejected, admitted / servers, waiting / admitted


def loss(servers: int, load: float, calls: int, seed: int = 1) -> float:
    """
    Return the share of calls that a bulkhead without a queue rejects.

    Args:
        servers: Its permits.

        load: In permits.

        calls: How many.

        seed: Of arrivals and times.
    """
    draw = random.Random(seed)
    held: list[tuple[int, int, Any]] = []
    now, rejected = 0.0, 0
    with virtual_clock():
        pool = bulkhead(servers)
        for number in range(calls):
            now += draw.expovariate(load)
            now_ns = round(now * SECOND)
            while held and held[0][0] <= now_ns:
                ended, _, permit = heapq.heappop(held)
                clock.set_virtual(ended)
                permit.success()
            clock.set_virtual(now_ns)
            permit = pool.try_acquire()
            if permit.admitted:
                heapq.heappush(held, (now_ns + round(draw.expovariate(1.0) * SECOND), number, permit))
            else:
                rejected += 1
        for *_, permit in held:
            permit.success()
    return rejected / calls


async def _queue(servers: int, places: int, load: float, calls: int, seed: int) -> tuple[float, float, float]:
    draw = random.Random(seed)
    pool = bulkhead(servers, max_queued=places, max_wait=1000.0)
    loop = asyncio.get_running_loop()
    rejected, waited, worked = 0, 0.0, 0.0

    async def call(time: float) -> None:
        nonlocal rejected, waited, worked
        begin = loop.time()
        try:
            permit = await pool.aacquire()
        except BulkheadFullError:
            rejected += 1
            return
        waited += loop.time() - begin
        worked += time
        await asyncio.sleep(time)
        permit.success()

    begin = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(calls):
            await asyncio.sleep(draw.expovariate(load))
            tasks.create_task(call(draw.expovariate(1.0)))
    return rejected / calls, worked / (loop.time() - begin) / servers, waited / (calls - rejected)


def queue(servers: int, places: int, load: float, calls: int, seed: int = 1) -> tuple[float, float, float]:
    """
    Return what a bulkhead with a queue makes of the calls: the three figures of `mmck`.

    Args:
        servers: Its permits.

        places: Of its queue.

        load: In permits.

        calls: How many.

        seed: Of arrivals and times.
    """
    with virtual_time() as vt:
        return vt.run(_queue, servers, places, load, calls, seed)


def bucket(arrivals: Sequence[int], rate: int, burst: int) -> list[bool]:
    """Return which calls a token bucket admits, in exact fractions; arrivals in nanoseconds, the rate a second."""
    tokens, before, answers = Fraction(burst), 0, []
    for at in arrivals:
        tokens = min(Fraction(burst), tokens + Fraction((at - before) * rate, SECOND))
        before = at
        answers.append(tokens >= 1)
        tokens -= answers[-1]
    return answers


def differing(runs: int, calls: int) -> tuple[int, int]:
    """
    Return how many decisions of a rate limit differ from those of a token bucket, and how many there were.

    Args:
        runs: Each with a rate, a burst and a load of its own.

        calls: Of each.
    """
    draw = random.Random(1)
    different = 0
    for _ in range(runs):
        rate, burst = draw.choice((1, 3, 7, 100, 1000)), draw.randint(1, 20)
        load, now, arrivals = rate * draw.choice((0.5, 1.0, 2.0)), 0.0, []
        for _ in range(calls):
            now += draw.expovariate(load)
            arrivals.append(round(now * SECOND))
        with virtual_clock():
            limit, seen = rate_limit(f"{rate}/s", burst=burst), []
            for at in arrivals:
                clock.set_virtual(at)
                seen.append(bool(limit.try_acquire()))
        different += sum(a != b for a, b in zip(seen, bucket(arrivals, rate, burst), strict=True))
    return different, runs * calls


def table(calls: int) -> Iterator[tuple[str, ...]]:
    """
    Yield the rows.

    Args:
        calls: Of a run; up to 24 times as many where few are rejected.
    """
    for servers, load, times in LOSSES:
        exact, seen = erlang_b(servers, load), loss(servers, load, calls * times)
        yield _row(f"bulkhead({servers}), load {load}", "rejected, Erlang-B", exact, seen)
    for places in QUEUES:
        what = f"bulkhead(10, max_queued={places}), load 15"
        figures = zip(mmck(10, places, 15), queue(10, places, 15, calls), strict=True)
        for name, (exact, seen) in zip(("rejected, M/M/c/K", "utilisation", "mean wait"), figures, strict=True):
            yield _row(what, name, exact, seen)
    different, decisions = differing(200, 500)
    yield (
        "rate_limit, 200 rates, bursts and loads",
        f"other than a token bucket, of {decisions:,}",
        "0",
        str(different),
        "-",
    )


def _row(what: str, figure: str, exact: float, seen: float) -> tuple[str, ...]:
    return what, figure, f"{exact:.4f}", f"{seen:.4f}", "-" if math.isclose(exact, seen) else f"{seen / exact - 1:+.2%}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = _results.command("Gates beside the formulas that they have to follow.")
    parser.add_argument("--calls", type=int, default=400_000, help="calls of a run (400000)")
    options = parser.parse_args(arguments)
    text = _results.section(ABOUT, ("gate", "figure", "exact", "seen", "off by"), table(options.calls))
    _results.show("Exact checks", text, recorded=options.record)


ABOUT = (
    "Calls that arrive as a Poisson process and hold a permit for an exponential time of mean 1. Must: within 1 % of "
    "the formula. A run is as long as it takes for chance to be well below that."
)

if __name__ == "__main__":
    main()
