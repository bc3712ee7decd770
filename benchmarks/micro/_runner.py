"""One run on this Python: the comparisons in several processes, then memory, accuracy, import, queue, instructions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from benchmarks.micro._accuracy import ABOUT, Filler, error_row, fill_own
from benchmarks.micro._callgrind import callgrind_table
from benchmarks.micro._comparison import Subject, Unavailable, compare
from benchmarks.micro._environment import describe, settle_clock
from benchmarks.micro._harness import Effort
from benchmarks.micro._imports import import_table
from benchmarks.micro._keyed import PeerKeyed, keyed_table
from benchmarks.micro._live import live_table
from benchmarks.micro._memory import bytes_each
from benchmarks.micro._other_clock import monotonic_table
from benchmarks.micro._own import comparisons
from benchmarks.micro._pending import pending_table
from benchmarks.micro._pool import run_in_processes
from benchmarks.micro._queue import queue_table
from benchmarks.micro._results import Results, Row, Skip, Table
from benchmarks.micro._scrape import scrape_table
from benchmarks.micro._simulation import simulation_table
from benchmarks.micro._targets import MANY
from benchmarks.micro._timers import timers_table

__all__ = ["FULL", "QUICK", "Peers", "Plan", "Say", "measure_all", "measure_comparisons"]

Say: TypeAlias = Callable[[str], None]
_OWN_MEMORY = "benchmarks.micro._memory_subjects"


@attrs.frozen
class Plan:
    """
    How thorough a run is.

    Attributes:
        name: What the command line calls it: "full" or "quick".

        effort: Of each comparison in one process.

        processes: How many processes do all comparisons.

        imports: Fresh processes for each import.

        queue_rounds: Rounds of the queue, and of pending timeouts.

        many: Keys of a policy for each key, pending timeouts, and simulated calls.

        throughput_seconds: That the throughput through clients and servers is measured.

        callgrind_calls: Calls whose instructions are counted; 0: none are.
    """

    name: str
    effort: Effort
    processes: int
    imports: int
    queue_rounds: int
    many: int
    throughput_seconds: float
    callgrind_calls: int

    def __str__(self) -> str:
        """The effort of the comparisons, from which the ratios come, in words for the report."""
        return f"{self.name}: {self.processes} processes of {self.effort}"


FULL = Plan(
    "full",
    Effort(rounds=41),
    processes=9,
    imports=25,
    queue_rounds=15,
    many=MANY,
    throughput_seconds=90,
    callgrind_calls=2000,
)
QUICK = Plan(
    "quick",
    Effort(rounds=21, sample_ns=400_000),
    processes=3,
    imports=5,
    queue_rounds=3,
    many=10_000,
    throughput_seconds=10,
    callgrind_calls=500,
)


@attrs.frozen
class Peers:
    """
    What other libraries contribute to a run; by default nothing.

    Attributes:
        distributions: Whose versions the report names.

        missing: Those that are not there, and why.

        subjects: Their subjects for a comparison, by its key; skips for those that have none.

        fillers: Fill their histograms, by name, for the table of errors.

        breakers: "module:function" that makes a guarded function, by name, for the table of memory.

        keyed: Their breakers for each key, by name.

        throughput: Measures within so many seconds what policies take of clients and servers: rows, and skips.
    """

    distributions: Sequence[str] = ()
    missing: Sequence[Skip] = ()
    subjects: Callable[[str], Sequence[Subject | Skip]] = lambda _key: ()
    fillers: Mapping[str, Filler] = attrs.field(factory=dict)
    breakers: Mapping[str, str] = attrs.field(factory=dict)
    keyed: Mapping[str, PeerKeyed] = attrs.field(factory=dict)
    throughput: Callable[[float], Sequence[Row | Skip]] = lambda _seconds: ()


def measure_comparisons(effort: Effort, peers: Peers, only: Sequence[str] = ()) -> Results:
    """Return the tables of all comparisons, or of those whose keys are in *only*, measured in this process."""
    return asyncio.run(_comparisons(effort, peers, only))


async def _comparisons(effort: Effort, peers: Peers, only: Sequence[str]) -> Results:
    settle_clock()
    wanted = [comparison for comparison in comparisons() if not only or comparison.key in only]
    tables = [await compare(comparison, peers.subjects(comparison.key), effort) for comparison in wanted]
    return Results(describe(peers.distributions), tuple(tables), f"one process of {effort}")


def measure_all(plan: Plan, peers: Peers, child: Sequence[str], say: Say) -> Results:
    """
    Return the results of everything there is to measure on this Python.

    Args:
        plan: How thorough.

        peers: What other libraries contribute.

        child: Arguments of an interpreter that calls `measure_comparisons` and prints its results as JSON.

        say: Told what is being measured.
    """
    settle_clock()
    tables = list(run_in_processes(child, plan.processes, say))
    for title, make in _others(plan, peers, say):
        say(title)
        tables.append(_made(title, make))
    return Results(describe(peers.distributions), tuple(tables), str(plan))


def _made(title: str, make: Callable[[], Table]) -> Table:
    """Make a table; one that fails says so in its place and leaves the others be."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
        return Table(
            title, title, "Not measured.", skips=(Skip("all of it", f"raised {type(error).__name__}: {error}"),)
        )


def _others(plan: Plan, peers: Peers, say: Say) -> Iterable[tuple[str, Callable[[], Table]]]:
    yield "clock_gettime", lambda: monotonic_table(plan.processes, say, quick=plan.effort == QUICK.effort)
    yield "accuracy", lambda: _accuracy(peers)
    yield "memory", lambda: _memory(peers)
    yield "import", lambda: import_table(plan.imports)
    yield "queue", lambda: asyncio.run(queue_table(plan.queue_rounds))
    yield "keyed", lambda: keyed_table(plan.many, plan.effort, peers.keyed)
    yield "timers", lambda: timers_table(plan.many, plan.queue_rounds)
    yield "scrape", lambda: scrape_table(plan.queue_rounds)
    yield "simulation", lambda: simulation_table(plan.many, plan.queue_rounds)
    yield "pending timeouts", lambda: pending_table(plan.many, plan.queue_rounds)
    yield "live page", lambda: live_table(plan.queue_rounds)
    yield "throughput", lambda: _throughput(peers, plan.throughput_seconds)
    if plan.callgrind_calls:
        yield "instructions", lambda: callgrind_table(plan.callgrind_calls)
    if peers.missing:
        yield "missing", lambda: Table("missing", "Not measured at all", "Missing.", skips=tuple(peers.missing))


def _accuracy(peers: Peers) -> Table:
    rows = [error_row("resilio LatencyHistogram", fill_own, "histogram_error")]
    rows += [error_row(name, fill) for name, fill in peers.fillers.items()]
    return Table("histogram_error", "Histogram: error of quantiles", ABOUT + ", over three shapes.", tuple(rows))


def _memory(peers: Peers) -> Table:
    wanted = [
        ("resilio circuit_breaker, after 1,000 calls", f"{_OWN_MEMORY}:used_breaker", "breaker_memory"),
        ("resilio circuit_breaker, new", f"{_OWN_MEMORY}:breaker", None),
        ("resilio LatencyHistogram, every octave hit", f"{_OWN_MEMORY}:histogram_of_every_octave", "histogram_memory"),
        ("resilio LatencyHistogram, 20,000 latencies", f"{_OWN_MEMORY}:histogram", None),
        *((name, factory, None) for name, factory in peers.breakers.items()),
    ]
    about = "Bytes of one, guarded function, registration and allocator included, of 1,000 in a fresh process."
    return _table("memory", "Memory", about, [_memory_row(*what) for what in wanted])


def _throughput(peers: Peers, seconds: float) -> Table:
    about = (
        "What clients and servers do on loopback when bare, and what is lost of that under a policy (limits of 95 %): "
        "by the processor time of a request in the process that is measured, and on the wall. Bare and guarded take "
        "turns in slices of a few requests; what is bare on both sides says how far a figure can be believed."
    )
    found = peers.throughput(seconds) or [Skip("clients and servers", "none was given")]
    return _table("throughput", "Throughput through clients and servers", about, found)


def _table(key: str, title: str, about: str, found: Sequence[Row | Skip]) -> Table:
    rows = tuple(row for row in found if isinstance(row, Row))
    return Table(key, title, about, rows, tuple(skip for skip in found if isinstance(skip, Skip)))


def _memory_row(subject: str, factory: str, target: str | None) -> Row | Skip:
    try:
        return Row(subject, bytes_each(factory), "bytes", target=target)
    except Unavailable as reason:
        return Skip(subject, str(reason))
