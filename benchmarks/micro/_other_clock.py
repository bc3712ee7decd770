"""The main figures once more on clock_gettime, for machines whose time stamp counter cannot be used."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks.micro._pool import run_in_processes
from benchmarks.micro._results import Row, Skip, Table
from resilio._native import clock

__all__ = ["monotonic_table"]

_KEYS = ("async_breaker", "async_stack", "sync_breaker")
_ABOUT = "With RESILIO_CLOCK=monotonic: what other processors, and virtual machines without a trusted counter, have."


def monotonic_table(processes: int, say: Callable[[str], None], *, quick: bool) -> Table:
    """
    Return the library's own rows of the main comparisons, measured with the time stamp counter switched off.

    Args:
        processes: How many processes measure them.

        say: Told before each.

        quick: Rough figures will do.
    """
    table = Table("monotonic", "The same without the time stamp counter", _ABOUT)
    if clock.source() != "tsc":
        return attrs.evolve(table, skips=(Skip("clock_gettime", "it is the clock of all the other tables as well"),))
    arguments = ["-m", "benchmarks.micro", "--json", *["--quick"] * quick, "--only", *_KEYS]
    tables = run_in_processes(arguments, processes, say, RESILIO_CLOCK="monotonic")
    return attrs.evolve(table, rows=tuple(_named(row, table) for table in tables for row in table.rows))


def _named(row: Row, table: Table) -> Row:
    return attrs.evolve(row, subject=f"{row.subject}: {table.title}", target=None)
