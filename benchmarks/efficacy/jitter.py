"""
`python -m benchmarks.efficacy.jitter`: how many calls a contended row costs, for each backoff, beside the published.

The simulation of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): some clients update one row, each by
reading its version and writing with it. A write whose version is old fails, and the client starts over after a wait.
Messages take 10 ms (normal, deviation 2 ms). The waits are those of the real backoffs, with base 5 ms and cap 2 s;
their attempts count from 1 where the published ones raise 2 to the power of 1 first, so the exponential ones have twice
the base.

The last row is a server that says when to come back: each loser gets the next free turn, as `retry-after-ms`, which the
client reads as the library does and never goes earlier.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.efficacy import _results
from resilio import constant, decorrelated_jitter, equal_jitter, exponential, full_jitter
from resilio._failures.retry_after import retry_after_of

__all__ = ["BACKOFFS", "ORDERLY", "PUBLISHED", "Run", "contend", "main", "mean_of", "table"]

DELAY, DEVIATION = 0.010, 0.002
TURN = 0.025  # seconds from one client's turn to the next: a read and a write apart, and a little for their deviation
BASE, CAP = 0.005, 2.0
ORDERLY = "full jitter, Retry-After"
BACKOFFS = {
    "none": constant(0),
    "exponential": exponential(2 * BASE, CAP),
    "equal jitter": equal_jitter(2 * BASE, CAP),
    "full jitter": full_jitter(2 * BASE, CAP),
    "decorrelated jitter": decorrelated_jitter(BASE, CAP),
    ORDERLY: full_jitter(2 * BASE, CAP),
}
# Milliseconds to completion, and calls: the published simulator run again, means of 100.
PUBLISHED = {
    50: {
        "none": (1140, 692),
        "exponential": (37062, 627),
        "equal jitter": (4195, 347),
        "full jitter": (2957, 333),
        "decorrelated jitter": (2374, 376),
    },
    100: {
        "none": (2020, 2414),
        "exponential": (64976, 1875),
        "equal jitter": (6591, 814),
        "full jitter": (4860, 797),
        "decorrelated jitter": (4767, 1003),
    },
    190: {
        "none": (3543, 8014),
        "exponential": (99822, 5127),
        "equal jitter": (9451, 1761),
        "full jitter": (7460, 1773),
        "decorrelated jitter": (7935, 2446),
    },
}


@dataclass
class Answer:
    """What the server says to a write."""

    good: bool
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Row:
    """The server: one row with a version."""

    orderly: bool
    version: int = 0
    calls: int = 0
    next_turn: float = 0.0

    def write(self, now: float, version: int) -> Answer:
        """Write if the version is still that of the row."""
        self.calls += 1
        if version == self.version:
            self.version += 1
            return Answer(good=True)
        if not self.orderly:
            return Answer(good=False)
        self.next_turn = max(now, self.next_turn) + TURN
        return Answer(good=False, headers={"retry-after-ms": f"{1e3 * (self.next_turn - now):.3f}"})


@dataclass(frozen=True)
class Run:
    """What it took until all clients had written: milliseconds, and calls to write."""

    ms: float
    calls: float


def contend(backoff: str, clients: int, seed: int) -> Run:
    """
    Have clients update the row once each.

    Args:
        backoff: Which, by its name in BACKOFFS.

        clients: How many, all starting at once.

        seed: Of the network and of the waits.
    """
    draw = random.Random(seed)
    row = Row(orderly=backoff == ORDERLY)
    ways = [_client(row, backoff, draw) for _ in range(clients)]
    numbers = itertools.count()
    queue = [(abs(next(way)), next(numbers), way) for way in ways]
    heapq.heapify(queue)
    now = 0.0
    while queue:
        now, _, way = heapq.heappop(queue)
        try:
            heapq.heappush(queue, (now + way.send(now), next(numbers), way))
        except StopIteration:
            continue
    return Run(1e3 * now, row.calls)


def _client(row: Row, backoff: str, draw: random.Random) -> Generator[float, float, None]:
    """Yield how long each step takes; the time at its end is sent back."""

    def message() -> float:
        return abs(draw.normalvariate(DELAY, DEVIATION))

    wait = 0.0
    for attempt in itertools.count(1):
        yield message() + wait
        version = row.version
        yield message()
        now = yield message()
        answer = row.write(now, version)
        yield message()
        if answer.good:
            return
        wait = max(BACKOFFS[backoff](attempt, wait, draw.random), retry_after_of(answer) or 0.0)


def mean_of(backoff: str, clients: int, runs: int) -> Run:
    """Return the means of so many runs, seeded 1, 2, and so on."""
    seen = [contend(backoff, clients, seed) for seed in range(1, runs + 1)]
    return Run(statistics.fmean(run.ms for run in seen), statistics.fmean(run.calls for run in seen))


def table(runs: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows: clients, backoff, published and seen time, published and seen calls."""
    for clients, published in PUBLISHED.items():
        for backoff in BACKOFFS:
            seen = mean_of(backoff, clients, runs)
            ms, calls = (f"{value:,}" for value in published[backoff]) if backoff in published else ("-", "-")
            yield str(clients), backoff, ms, f"{seen.ms:,.0f}", calls, f"{seen.calls:,.0f}"


HEADER = ("clients", "backoff", "published ms", "seen ms", "published calls", "seen calls")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or record it."""
    parser = _results.command("What contention costs with each backoff, beside the published.")
    parser.add_argument("--runs", type=int, default=100, help="runs of each cell (100)")
    options = parser.parse_args(arguments)
    about = (
        f"Clients that update one row, means of {options.runs} runs. Must: the published order and ratios, full jitter "
        "at most half the calls of none at 100 clients, no more calls with Retry-After than with full jitter alone. "
        f"The server that says when to come back has a client every {1e3 * TURN:g} ms, so it takes at least that each."
    )
    text = _results.section(about, HEADER, table(options.runs))
    _results.show("R10 jitter", text, recorded=options.record)


if __name__ == "__main__":
    main()
