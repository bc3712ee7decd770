"""
Instructions a call, counted by callgrind.

Instructions do not depend on what else the machine does, so a change of one in a hundred shows. One process runs all
cases between marks at which callgrind writes out what it counted: start-up is not among it. The interpreter's own
instructions for the loop and the callee are subtracted, as the same loop around the bare callee; what the native
modules themselves executed is told apart by the object file that callgrind attributes each instruction to.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from benchmarks.micro._child import child
from benchmarks.micro._results import Row, Skip, Table

__all__ = ["Counts", "callgrind_table", "parse"]

_CHILD = "benchmarks.micro._callgrind_case"
_MARK = "getpgrp"
_ABOUT = (
    "Instructions a call on top of the bare loop, by valgrind's callgrind; in the note those inside resilio's own "
    "native modules."
)
_CASES = {
    "async empty wrapper": "bare await",
    "async breaker on success": "bare await",
    "async breaker on success, scraped by Prometheus": "bare await",
    "rate_limit + bulkhead + breaker, fused": "bare await",
    "retry, first attempt succeeds": "bare await",
    "fallback, primary succeeds": "bare await",
    "timeout, call that never suspends": "bare await",
    "whole stack of 8, decorators": "bare await",
    "sync empty wrapper": "bare call",
    "sync breaker on success": "bare call",
    "rejection raised and caught": "bare loop",
    "rejection through try_call": "bare loop",
    "LatencyHistogram.record": "bare loop",
    "TokenBucket.try_acquire": "bare loop",
}


@attrs.frozen
class Counts:
    """Instructions in all, those in resilio's native modules, and the clock that was read."""

    total: float
    native: float
    clock: str = "-"

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.total - other.total, self.native - other.native, self.clock)

    def each(self, calls: int) -> Counts:
        """Return the counts of one of *calls*."""
        return Counts(self.total / calls, self.native / calls, self.clock)


def callgrind_table(calls: int) -> Table:
    """Return the table of instruction counts of *calls* calls each, or a table that says why there is none."""
    table = Table("instructions", "Instructions", _ABOUT)
    if shutil.which("valgrind") is None:
        return attrs.evolve(table, skips=(Skip("all instruction counts", "valgrind is not installed"),))
    counted = _count(calls)
    made = [_row(name, counted[name], counted[base]) for name, base in _CASES.items()]
    rows = tuple(row for row in made if isinstance(row, Row))
    return attrs.evolve(table, rows=rows, skips=tuple(skip for skip in made if isinstance(skip, Skip)))


def _row(name: str, counts: Counts | Skip, base: Counts | Skip) -> Row | Skip:
    if isinstance(counts, Skip):
        return counts
    if isinstance(base, Skip):
        return Skip(name, base.reason)
    added = counts - base
    note = "for comparison" if "wrapper" in name else f"{added.native:,.0f} in resilio's own modules"
    return Row(name, added.total, "instructions", clock=counts.clock, note=note)


def _count(calls: int) -> dict[str, Counts | Skip]:
    """Return every case's instructions a call; callgrind writes one file at each of two marks around a case."""
    counted: dict[str, Counts | Skip] = {}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "counts"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", "--compress-strings=no"]
        said = json.loads(
            child(["-m", _CHILD, str(calls)], before=[*valgrind, f"--dump-before={_MARK}"], PYTHONHASHSEED="0")
        )
        parts = iter(range(2, 2 * len(said["errors"]) + 2, 2))
        for name, error in said["errors"].items():
            counted[name] = Skip(name, error) if error else _part(output, next(parts), calls, said["clock"])
    return counted


def _part(output: Path, number: int, calls: int, clock: str) -> Counts:
    with output.with_name(f"{output.name}.{number}").open(encoding="utf-8", errors="replace") as lines:
        return attrs.evolve(parse(lines).each(calls), clock=clock)


def parse(lines: Iterable[str]) -> Counts:
    """
    Add up the self cost of every function in a callgrind file, by object file.

    After a `calls=` line comes the inclusive cost of a call, which is the callee's and is not counted again. An object
    file is in force until the next `ob=` line.
    """
    total = native = 0
    own = inclusive = False
    for line in lines:
        if line.startswith("ob="):
            own = "/resilio/_native/" in line
        elif line.startswith("calls="):
            inclusive = True
        elif line[:1] in "0123456789+-*" and line.strip():
            if not inclusive:
                cost = _cost(line.split())
                total += cost
                native += cost if own else 0
            inclusive = False
    return Counts(total, native)


def _cost(fields: Sequence[str]) -> int:
    return int(fields[1]) if len(fields) > 1 else 0
