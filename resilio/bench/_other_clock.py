"""The main figures once more on clock_gettime, for machines whose time stamp counter cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from resilio._native import clock
from resilio.bench._pool import run_in_processes
from resilio.bench._results import Row, Skip, Table

__all__ = ["monotonic_table"]

_KEYS = ("async_breaker", "async_stack", "sync_breaker")
_ABOUT = "With RESILIO_CLOCK=monotonic: what other processors, and virtual machines without a trusted counter, have."


def monotonic_table(arguments: Sequence[str], processes: int, say: Callable[[str], None]) -> Table:
    """
    Return the library's own rows of the main comparisons, measured with the time stamp counter switched off.

    Args:
        arguments: Of an interpreter that measures comparisons, whose keys are appended, and prints results as JSON.

        processes: How many of them.

        say: Told before each.
    """
    table = Table("monotonic", "The same without the time stamp counter", _ABOUT)
    if clock.source() != "tsc":
        return attrs.evolve(table, skips=(Skip("clock_gettime", "it is the clock of all the other tables as well"),))
    tables = run_in_processes([*arguments, *_KEYS], processes, say, RESILIO_CLOCK="monotonic")
    return attrs.evolve(table, rows=tuple(_named(row, table) for table in tables for row in table.rows))


def _named(row: Row, table: Table) -> Row:
    return attrs.evolve(row, subject=f"{row.subject}: {table.title}", target=None)
