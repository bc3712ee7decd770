"""
`python -m benchmarks.shared`: what `scope="host"` adds to a call, while other processes call the same policies.

Two tables:

- nine busy processes: eight make calls as fast as they can; the ninth compares blocks of calls, shared and not shared,
  in turn, by the processor time of its thread, so what others take from it does not count;
- one limit, calls spaced evenly: each of several processes makes 50,000 calls a second of a shared limit, and between
  them as many of one of its own, and compares single calls; those that took longer than 5 us were interrupted.

A machine with fewer processors than processes runs them in turns: then most calls find their cache lines as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

from resilio import RetryBudget, bulkhead, circuit_breaker, rate_limit, retry, standard

BUSY = 8
BLOCK, PAIRS = 2000, 400
RATE, SECONDS, LONGEST_NS = 50_000, 4.0, 5000
MUSTS = {"breaker": 5, "bulkhead": 15, "budget": 5, "limit": 15, "standard": 25}
LIMIT = "10000000/s"


def callee() -> None:
    """Do nothing."""


KINDS: dict[str, Callable[[str, str], Any]] = {
    "breaker": lambda name, scope: circuit_breaker(name, scope=scope),
    "bulkhead": lambda name, scope: bulkhead(100, name=name, scope=scope),
    "budget": lambda name, scope: retry(on=OSError, budget=RetryBudget(name, scope=scope)),
    "limit": lambda name, scope: rate_limit(LIMIT, name=name, scope=scope),
    "standard": lambda name, scope: standard(name, on=OSError, scope=scope),
}


def guarded(kind: str, scope: str) -> Callable[[], None]:
    """Return the callee behind a policy of this kind, shared or not."""
    return KINDS[kind](f"{kind} of a benchmark, {scope}", scope)(callee)  # type: ignore[no-any-return]


def _block(function: Callable[[], None]) -> int:
    began = time.thread_time_ns()
    for _ in repeat(None, BLOCK):
        function()
    return time.thread_time_ns() - began


def added(kind: str, pairs: int = PAIRS) -> tuple[float, float]:
    """Return the nanoseconds that sharing adds to a call: the median, and the upper limit of its 95 % confidence."""
    own, shared = guarded(kind, "process"), guarded(kind, "host")
    _block(own), _block(shared)
    found = []
    for number in range(pairs):
        first, second = (own, shared) if number % 2 else (shared, own)
        times = {first: _block(first), second: _block(second)}
        found.append((times[shared] - times[own]) / BLOCK)
    return statistics.median(found), upper(found)


def upper(found: list[float]) -> float:
    """Return the upper limit of the confidence of a median, 95 %: an order statistic, of any distribution."""
    rank = len(found) / 2 + 1.645 * (len(found) / 4) ** 0.5
    return sorted(found)[min(len(found) - 1, int(rank))]


def spaced(seconds: float = SECONDS) -> list[float]:
    """Return the nanoseconds of a limit's own call and of a shared one, the latter's rate, and the share left out."""
    limits = [rate_limit(LIMIT, name="own", scope="process"), rate_limit(LIMIT, name="spaced", scope="host")]
    calls = [limit(callee) for limit in limits]
    sums, counts, left_out = [0, 0], [0, 0], 0
    gap, clock = 10**9 // RATE // 2, time.perf_counter_ns
    end, used = clock() + int(seconds * 1e9), time.thread_time()
    next_ns, number = clock(), 0
    while next_ns < end:
        while clock() < next_ns:
            pass
        which = number & 1
        began = clock()
        calls[which]()
        took = clock() - began
        if took < LONGEST_NS:
            sums[which] += took
            counts[which] += 1
        else:
            left_out += 1
        number += 1
        next_ns = max(next_ns + gap, clock())  # what was missed while others ran is not made up for
    rate = number / 2 / (time.thread_time() - used)
    return [sums[0] / counts[0], sums[1] / counts[1], rate, left_out / number]


@contextmanager
def _others(number: int, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "benchmarks.shared", *arguments]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()
            if other.stdout is not None:
                other.stdout.close()


def _busy(kind: str) -> None:
    shared = guarded(kind, "host")
    shared()
    print("ready", flush=True)
    while True:
        shared()


def _spaced_one() -> None:
    print("ready", flush=True)
    print(json.dumps(spaced()), flush=True)


def nine() -> Iterator[str]:
    """Yield the rows of the first table."""
    yield "| | added, ns | upper limit | must |"
    yield "|---|---|---|---|"
    for kind, must in MUSTS.items():
        with _others(BUSY, "--busy", kind):
            median, limit = added(kind)
        yield f"| {kind} | {median:.1f} | {limit:.1f} | {must} |"


def evenly() -> Iterator[str]:
    """Yield the rows of the second table."""
    yield "| processes | calls in a second of running | its own, ns | shared, ns | added, ns | interrupted |"
    yield "|---|---|---|---|---|---|"
    for number in (1, 2, 8):
        with _others(number, "--spaced") as others:
            found = [json.loads(other.stdout.readline()) for other in others if other.stdout is not None]
        own, shared, rate, left_out = (statistics.mean(column) for column in zip(*found, strict=True))
        yield f"| {number} | {rate:,.0f} | {own:.0f} | {shared:.0f} | {shared - own:.1f} | {left_out:.2%} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared", description="What sharing a host adds.")
    parser.add_argument("--busy", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--spaced", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.busy:
        _busy(options.busy)
    if options.spaced:
        _spaced_one()
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as directory:
        os.environ.update(RESILIO_SHARED_DIR=directory, RESILIO_HOST_NAME="benchmark")
        for rows in (nine(), evenly()):
            for row in rows:
                print(row, flush=True)
            print()


if __name__ == "__main__":
    main()
