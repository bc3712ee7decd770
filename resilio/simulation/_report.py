"""Results as a table, shown with rich on a terminal if it is installed, else with `print`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

from resilio.simulation._results import Outcome, Result

__all__ = ["plain_table", "rows_of", "show", "sweep_rows"]

Row = tuple[str, ...]
_UNKNOWN = "-"


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.2f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:,.1f}"


def _times(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3f}"


def _duration(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs" if value else "0 s"
    return f"{value * 1e3:.1f} ms" if value < 1.0 else f"{value:.2f} s"


def _recovery(outcome: Outcome, result: Result) -> str:
    if outcome.recovery is not None:
        return _duration(outcome.recovery)
    return _UNKNOWN if result.scenario.recovery_from is None or not outcome.complete else "never"


_FIGURES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("tasks offered", "offered", _count),
    ("  answered in time", "success", _percent),
    ("  answered in time, a second", "goodput", _rate),
    ("  answered too late", "late", _count),
    ("  failed", "failed", _count),
    ("  rejected by the client's policies", "rejected", _count),
    ("  given up by the caller", "gave_up", _count),
    ("  not ended", "unfinished", _count),
    ("how long answers take, p50", "p50", _duration),
    ("  p99", "p99", _duration),
    ("  p99.9", "p999", _duration),
    ("attempts for each call", "amplification", _times),
    ("requests that reached the server", "arrived", _count),
    ("  into an outage", "in_outage", _count),
    ("  wasted work", "wasted", _count),
    ("trips to the store", "trips", _count),
)
_ALWAYS = {"offered", "success", "goodput", "p50", "p99", "p999", "amplification", "arrived"}


def rows_of(result: Result) -> list[Row]:
    """Return a heading, then a row for each figure of all stacks, without some figures that are 0 for all."""
    outcomes = list(result.values())
    rows: list[Row] = [(result.scenario.title, *result)]
    for label, name, form in _FIGURES:
        values = [getattr(outcome, name) for outcome in outcomes]
        if name in _ALWAYS or any(values):
            rows.append((label, *map(form, values)))
    if result.scenario.recovery_from is not None:
        label = f"recovered after the last fault ({100 * result.scenario.recovered:g} %)"
        rows.append((label, *(_recovery(outcome, result) for outcome in outcomes)))
    rows += _by_load(result)
    return rows + _by_reason(result)


def _by_load(result: Result) -> list[Row]:
    if len(result.scenario.loads) < 2:
        return []
    outcomes = list(result.values())
    rows: list[Row] = [("answered in time, by load", *[""] * len(outcomes))]
    names = [load.name for load in result.scenario.loads]
    return rows + [(f"  {name}", *(_percent(each.loads[name]["success"]) for each in outcomes)) for name in names]


def _by_reason(result: Result) -> list[Row]:
    """Return a row for each policy and reason of rejections, the most frequent first."""
    counts = [{(who, why): count for who, why, count in outcome.rejections} for outcome in result.values()]
    most = {reason: max(each.get(reason, 0) for each in counts) for reason in set().union(*counts)}
    rows: list[Row] = [("rejections", *[""] * len(counts))] if most else []
    for who, why in sorted(most, key=lambda reason: (-most[reason], reason)):
        rows.append((f"  {who}: {why}", *(_count(each.get((who, why), 0)) for each in counts)))
    return rows


def sweep_rows(results: Sequence[tuple[Any, Result]], sweep: str) -> list[Row]:
    """Return the figures of each stack for each value: tasks answered in time a second, and the p99."""
    names = list(results[0][1])
    rows: list[Row] = []
    for title, figure, form in (("answered in time, a second", "goodput", _rate), ("p99 of answers", "p99", _duration)):
        rows.append((title, *([""] * len(names) if rows else names)))
        for value, result in results:
            shown = [form(getattr(result[name], figure)) if name in result else _UNKNOWN for name in names]
            rows.append((f"  {sweep} = {value}", *shown))
    return rows


def plain_table(rows: Sequence[Row]) -> str:
    """Return rows as text in aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)


def show(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """
    Print the table and the notes under it on standard output.

    Args:
        rows: Rows of the table, the heading first.

        notes: Lines to print below.
    """
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _show_rich(rows)
    else:
        print(plain_table(rows))
    for note in notes:
        print(note)


def _show_rich(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    table.add_column(rows[0][0])
    for name in rows[0][1:]:
        table.add_column(name, justify="right")
    for label, *cells in rows[1:]:
        table.add_row(label, *cells, style=None if any(cells) else "bold")
    Console().print(table)
