"""One run on this Python: every comparison, then memory, accuracy, import and queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from resilio.bench._accuracy import ABOUT, Filler, error_row, fill_own
from resilio.bench._callgrind import callgrind_table
from resilio.bench._comparison import Comparison, Subject, Unavailable, compare
from resilio.bench._environment import describe
from resilio.bench._harness import Effort
from resilio.bench._imports import import_table
from resilio.bench._memory import bytes_each
from resilio.bench._own import comparisons
from resilio.bench._queue import queue_table
from resilio.bench._results import Results, Row, Skip, Table

__all__ = ["FULL", "QUICK", "Peers", "Plan", "run"]

_OWN_MEMORY = "resilio.bench._memory_subjects"


@attrs.frozen
class Plan:
    """How thorough a run is: effort of each comparison, fresh imports, rounds of the queue, instruction counts or not."""

    effort: Effort
    imports: int
    queue_rounds: int
    callgrind: bool = False
    callgrind_calls: int = 2000


FULL = Plan(Effort(), imports=25, queue_rounds=15)
QUICK = Plan(Effort(rounds=21, sample_ns=400_000), imports=5, queue_rounds=3, callgrind_calls=500)


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
    """

    distributions: Sequence[str] = ()
    missing: Sequence[Skip] = ()
    subjects: Callable[[str], Sequence[Subject | Skip]] = lambda _key: ()
    fillers: Mapping[str, Filler] = attrs.field(factory=dict)
    breakers: Mapping[str, str] = attrs.field(factory=dict)


_Say: TypeAlias = Callable[[str], None]


def run(plan: Plan, peers: Peers | None = None, say: _Say = lambda _text: None) -> Results:
    """Return the results of all measurements on this Python; *say* is told what is being measured."""
    return asyncio.run(_run(plan, peers or Peers(), say))


async def _run(plan: Plan, peers: Peers, say: _Say) -> Results:
    tables = [await _compare(comparison, peers, plan.effort, say) for comparison in comparisons()]
    for title, make in _others(plan, peers):
        say(title)
        tables.append(await make())
    if peers.missing:
        tables.append(Table("missing", "Not measured at all", "On the Pythons named.", skips=tuple(peers.missing)))
    return Results(describe(peers.distributions), tuple(tables))


async def _compare(comparison: Comparison, peers: Peers, effort: Effort, say: _Say) -> Table:
    say(comparison.title)
    return await compare(comparison, peers.subjects(comparison.key), effort)


def _others(plan: Plan, peers: Peers) -> Iterable[tuple[str, Callable[[], Awaitable[Table]]]]:
    yield "Accuracy", lambda: _plain(_accuracy(peers))
    yield "Memory", lambda: _plain(_memory(peers))
    yield "Import", lambda: _plain(import_table(plan.imports))
    yield "Queue", lambda: queue_table(plan.queue_rounds)
    if plan.callgrind:
        yield "Instructions", lambda: _plain(callgrind_table(plan.callgrind_calls))


async def _plain(table: Table) -> Table:
    return table


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
    measured = [_memory_row(*what) for what in wanted]
    rows = tuple(row for row in measured if isinstance(row, Row))
    skips = tuple(skip for skip in measured if isinstance(skip, Skip))
    about = "Bytes of one, guarded function, registration and allocator included, of 1,000 in a fresh process."
    return Table("memory", "Memory", about, rows, skips)


def _memory_row(subject: str, factory: str, target: str | None) -> Row | Skip:
    try:
        return Row(subject, bytes_each(factory), "bytes", target=target)
    except Unavailable as reason:
        return Skip(subject, str(reason))
