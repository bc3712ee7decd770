"""
`python -m benchmarks.shared.fleet`: limits and breakers for several hosts, each over the same kind of store.

Each system guards the same function, over a Valkey of its own process on this machine, set up as its documentation
shows. Measured are what a call takes and how often it goes to the store, and then, with the store stopped (SIGSTOP: it
takes questions, and answers none), the longest that a call waits, and how calls end.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.efficacy import _results
from benchmarks.micro import _work
from benchmarks.micro._comparison import Unavailable
from benchmarks.peers._redis import server, stopped

CALLS, PACE = 2000, 0.001
STOPPED = 10.0
"""Seconds for which the store is stopped, if none are given; a call that has not ended by then took longer."""

SYSTEMS: Mapping[str, str] = {
    "resilio rate_limit": "benchmarks.micro._fleet:guarded_limit",
    "limits": "benchmarks.peers.limits_redis:fleet_limit",
    "slowapi": "benchmarks.peers.slowapi_redis:fleet_limit",
    "throttled-py": "benchmarks.peers.throttled_redis:fleet_limit",
    "pyrate-limiter": "benchmarks.peers.pyrate_redis:fleet_limit",
    "litellm Router, usage": "benchmarks.peers.litellm_redis:fleet_limit",
    "litellm Router, budget": "benchmarks.peers.litellm_redis:fleet_budget",
    "resilio circuit_breaker": "benchmarks.micro._fleet:guarded_breaker",
    "pybreaker": "benchmarks.peers.pybreaker_redis:fleet_breaker",
    "purgatory": "benchmarks.peers.purgatory_redis:fleet_breaker",
    "interlock-cb": "benchmarks.peers.interlock_redis:fleet_breaker",
}
COLUMNS = ("", "a call, us", "99 % of calls, us", "trips a call", "longest with the store stopped", "calls then")

_TITLE = "R11 limits and breakers through a store, beside others"
_ABOUT = (
    "`python -m benchmarks.shared.fleet`: each system guards a function that does nothing, over a Valkey of its own on "
    "the same machine, one call in a millisecond. Then the store is stopped for {stopped:g} s (SIGSTOP): it takes "
    "questions, and answers none."
)


def _made(system: str) -> Callable[[], Any]:
    module, _, name = SYSTEMS[system].partition(":")
    return getattr(importlib.import_module(module), name)(_work.callee())  # type: ignore[no-any-return]


def _reads() -> int:
    """Return how many questions the server has read so far; this one is among them, with what a client begins with."""
    from redis import Redis

    with Redis.from_url(server()) as client:
        return int(client.info("stats")["total_reads_processed"])


def _paced(function: Callable[[], Any], calls: int) -> list[float]:
    """Return the seconds of each of some calls, of which one begins in a millisecond."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        function()
        took.append(time.perf_counter() - began)
        time.sleep(PACE)
    return took


class _Caller(threading.Thread):
    """A thread that goes on to call while the store is stopped; a call may never end."""

    def __init__(self, function: Callable[[], Any], stopped: float) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._began: float | None = None
        self._end = time.perf_counter() + stopped
        self.took: list[float] = []
        self.ends: Counter[str] = Counter()

    def run(self) -> None:
        while time.perf_counter() < self._end:
            self._began = time.perf_counter()
            try:
                self._function()
            except Exception as error:  # noqa: BLE001  (whatever it is, it is counted)
                self.ends[type(error).__name__] += 1
            else:
                self.ends["answered"] += 1
            self.took.append(time.perf_counter() - self._began)
            self._began = None
            time.sleep(PACE)

    def longest(self) -> float:
        """Return the longest call, one that has not ended included."""
        began = self._began
        return max([*self.took, 0.0 if began is None else time.perf_counter() - began])


def one(system: str, seconds: float) -> dict[str, Any]:
    """Return the figures of one system, in a process of its own."""
    function = _made(system)
    _paced(function, 500)
    own = -_reads() + _reads()
    before = _reads()
    took = sorted(_paced(function, CALLS))
    trips = (_reads() - before - own) / CALLS
    caller = _Caller(function, seconds)
    with stopped():
        caller.start()
        caller.join(seconds + 1.0)
        longest = caller.longest()
    ends = dict(caller.ends) or {"none ended": 1}
    return {
        "median": statistics.median(took),
        "tail": took[len(took) * 99 // 100],
        "trips": trips,
        "longest": longest,
        "ends": ends,
    }


def _child(system: str, seconds: float) -> dict[str, Any] | str:
    """Return the figures of a system, or why there are none."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.shared.fleet",
        "--one",
        system,
        "--stopped",
        str(seconds),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return (done.stderr.strip().splitlines() or ["it ended without a figure"])[-1]
    return json.loads(lines[-1])  # type: ignore[no-any-return]


def rows(systems: Mapping[str, str] = SYSTEMS, seconds: float = STOPPED) -> Iterator[tuple[str, ...]]:
    """Yield the rows under `COLUMNS`; a system that cannot be measured has the reason."""
    for system in systems:
        found = _child(system, seconds)
        if isinstance(found, str):
            yield system, f"not measured: {found}", *[""] * (len(COLUMNS) - 2)
        else:
            yield system, *_cells(found, seconds)


def _cells(found: Mapping[str, Any], seconds: float) -> tuple[str, ...]:
    longest, ends = found["longest"], Counter(found["ends"])
    waited = f"more than {seconds:g} s" if longest >= seconds else f"{longest * 1e3:,.1f} ms"
    total = sum(ends.values())
    fate = ", ".join(f"{name} {count / total:.0%}" for name, count in ends.most_common())
    return f"{found['median'] * 1e6:,.0f}", f"{found['tail'] * 1e6:,.0f}", f"{found['trips']:.3f}", waited, fate


def main() -> None:
    """Print the table, or record it."""
    parser = _results.command(__doc__)
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--stopped", type=float, default=STOPPED, metavar="SECONDS", help="10 by default")
    options = parser.parse_args()
    if options.one:
        try:
            print(json.dumps(one(options.one, options.stopped)), flush=True)
        except (ImportError, Unavailable) as reason:
            sys.exit(str(reason))
        return
    text = _results.section(_ABOUT.format(stopped=options.stopped), COLUMNS, rows(seconds=options.stopped))
    _results.show(_TITLE, text, recorded=options.record)


if __name__ == "__main__":
    main()
