"""
The comparisons, in several processes.

Where the interpreter's and a function's code and objects happen to lie moves every figure by several per cent, the
same way for a whole process. So each comparison is interleaved within a process, and a row's figure is the median of
what the processes found; its spread is from the lowest of them to the highest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import median

import attrs

from benchmarks.micro._child import child
from benchmarks.micro._results import Row, Table, from_json

__all__ = ["pooled", "run_in_processes"]


def run_in_processes(
    arguments: Sequence[str], processes: int, say: Callable[[str], None], **environment: str
) -> tuple[Table, ...]:
    """
    Return the pooled tables of several runs.

    Args:
        arguments: Of an interpreter that measures the comparisons and prints its results as JSON.

        processes: How many, one after the other.

        say: Told before each.

        environment: Added to that of the children.
    """
    runs = []
    for number in range(processes):
        say(f"comparisons, process {number + 1} of {processes}")
        runs.append(from_json(json.loads(child(arguments, **environment))).tables)
    return pooled(runs)


def pooled(runs: Sequence[Sequence[Table]]) -> tuple[Table, ...]:
    """Return the first run's tables with each row's figures pooled over all runs that have the row."""
    found: dict[tuple[str, str], list[Row]] = {}
    for table in (table for run in runs for table in run):
        for row in table.rows:
            found.setdefault((table.key, row.subject), []).append(row)
    return tuple(
        attrs.evolve(table, rows=tuple(_pooled(found[table.key, row.subject]) for row in table.rows))
        for table in runs[0]
    )


def _pooled(rows: Sequence[Row]) -> Row:
    values = [row.value for row in rows]
    if len(rows) == 1:
        return rows[0]
    ns = [row.ns for row in rows if row.ns is not None]
    return attrs.evolve(rows[0], value=median(values), low=min(values), high=max(values), ns=median(ns) if ns else None)
