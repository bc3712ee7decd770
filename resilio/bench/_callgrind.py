"""
Instructions a call, counted by callgrind.

Instructions do not depend on what else the machine does, so a change of one in a hundred shows. Each case runs twice in
a process of its own, for n and for 2n calls: the difference is n calls without start-up. The interpreter's own
instructions for the loop and the callee are subtracted as well, as the same loop around the bare callee; what the
native modules themselves executed is told apart by the object file that callgrind attributes each instruction to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from resilio._native import clock
from resilio.bench._results import Row, Skip, Table

__all__ = ["Counts", "callgrind_table", "parse"]

_ABOUT = (
    "Instructions a call on top of the bare loop, by valgrind's callgrind; in the note those inside resilio's own "
    "native modules. Counted for n and 2n calls, so that start-up cancels out."
)
_CASES = {
    "async empty wrapper": "bare await",
    "async breaker on success": "bare await",
    "rate_limit + bulkhead + breaker, fused": "bare await",
    "sync empty wrapper": "bare call",
    "sync breaker on success": "bare call",
    "refusal raised and caught": "bare loop",
    "refusal through attempt": "bare loop",
    "LatencyHistogram.record": "bare loop",
    "TokenBucket.try_acquire": "bare loop",
}


@attrs.frozen
class Counts:
    """Instructions in all, and those in resilio's native modules."""

    total: float
    native: float

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.total - other.total, self.native - other.native)

    def each(self, calls: int) -> Counts:
        """Return the counts of one of *calls*."""
        return Counts(self.total / calls, self.native / calls)


def callgrind_table(calls: int) -> Table:
    """Return the table of instruction counts of *calls* calls each, or a table that says why there is none."""
    table = Table("instructions", "Instructions", _ABOUT)
    if shutil.which("valgrind") is None:
        return attrs.evolve(table, skips=(Skip("all instruction counts", "valgrind is not installed"),))
    bases = {name: _each(name, calls) for name in sorted(set(_CASES.values()))}
    rows: list[Row] = []
    skips: list[Skip] = []
    for name, base in _CASES.items():
        try:
            rows.append(_row(name, _each(name, calls) - bases[base]))
        except RuntimeError as error:
            skips.append(Skip(name, str(error)))
    return attrs.evolve(table, rows=tuple(rows), skips=tuple(skips))


def _row(name: str, counts: Counts) -> Row:
    note = f"{counts.native:,.0f} in resilio's own modules" if "wrapper" not in name else "for comparison"
    return Row(name, counts.total, "instructions", clock=clock.source(), note=note)


def _each(name: str, calls: int) -> Counts:
    once, twice = (_run(name, n) for n in (calls, 2 * calls))
    return (twice - once).each(calls)


def _run(name: str, calls: int) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}", "--compress-strings=no"]
        command += [sys.executable, "-P", "-m", "resilio.bench._callgrind_case", name, str(calls)]
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode or not output.exists():
            raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
        with output.open(encoding="utf-8", errors="replace") as lines:
            return parse(lines)


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": paths}


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
