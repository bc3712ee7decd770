"""The report on one run or several, for a terminal and as Markdown. Every figure in it comes from a record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.micro._results import Results, Row, Table
from benchmarks.micro._targets import TARGETS, Target

__all__ = ["figure", "markdown", "terminal"]

_NOT_MEASURED = "not measured"
_Grid = list[list[str]]


def terminal(runs: Sequence[Results]) -> str:
    """Return the whole report as text with aligned columns."""
    parts = [_environment_line(run) for run in runs]
    parts += ["", "Targets", _aligned(_targets(runs))]
    for title, about, grid, skips in _tables(runs):
        parts += ["", title, f"  {about}", *([_aligned(grid)] if len(grid) > 1 else [])]
        parts += [f"  skipped: {skip}" for skip in skips]
    return "\n".join(parts)


def markdown(runs: Sequence[Results], introduction: str = "") -> str:
    """Return the whole report as Markdown."""
    parts = ["# Microbenchmarks", "", introduction]
    parts += ["", "## Where, when and how thoroughly", "", _bars(_environments(runs))]
    parts += ["", "## Targets", "", _bars(_targets(runs))]
    for title, about, grid, skips in _tables(runs):
        parts += ["", f"## {title}", "", about, *(["", _bars(grid)] if len(grid) > 1 else [])]
        parts += [""] * bool(skips) + [f"- skipped: {skip}" for skip in skips]
    return "\n".join(parts) + "\n"


def figure(row: Row) -> str:
    """Return a row's figure with its unit, and nanoseconds beside a figure in W."""
    if row.unit == "W":
        return f"{row.value:.2f} W ({row.ns:.0f} ns)"
    if row.unit == "bytes":
        return f"{row.value:,.0f} B" if row.value < 10_000 else f"{row.value / 1024:,.1f} KB"
    if row.unit in ("%", "x"):
        return f"{row.value:.2f} {row.unit}"
    return f"{row.value:,.0f} {row.unit}" if row.value >= 100 else f"{row.value:.1f} {row.unit}"


def _spread(row: Row) -> str:
    if row.low is None or row.high is None or not row.value:
        return ""
    if row.unit == "%":
        return f" ({row.low:.2f} to {row.high:.2f})"
    return f" ±{50 * (row.high - row.low) / abs(row.value):.0f} %"


def _tables(runs: Sequence[Results]) -> Iterable[tuple[str, str, _Grid, list[str]]]:
    for key, first in _by_key(runs).items():
        tables = [_find(run, key) for run in runs]
        yield first.title, first.about, _grid(runs, tables), _skips(runs, tables)


def _by_key(runs: Sequence[Results]) -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for run in runs:
        for table in run.tables:
            tables.setdefault(table.key, table)
    return tables


def _find(run: Results, key: str) -> Table | None:
    return next((table for table in run.tables if table.key == key), None)


def _grid(runs: Sequence[Results], tables: Sequence[Table | None]) -> _Grid:
    subjects = dict.fromkeys(row.subject for table in tables if table for row in table.rows)
    grid = [["", *(run.environment.python for run in runs), "clock", "note"]]
    for subject in subjects:
        rows = [_row(table, subject) for table in tables]
        known = next(row for row in rows if row)
        cells = [figure(row) + _spread(row) if row else _NOT_MEASURED for row in rows]
        grid.append([subject, *cells, known.clock, known.note])
    return grid


def _row(table: Table | None, subject: str) -> Row | None:
    return next((row for row in table.rows if row.subject == subject), None) if table else None


def _skips(runs: Sequence[Results], tables: Sequence[Table | None]) -> list[str]:
    pythons: dict[str, list[str]] = {}
    for run, table in zip(runs, tables, strict=True):
        for skip in table.skips if table else ():
            pythons.setdefault(f"{skip.subject}: {skip.reason}", []).append(run.environment.python)
    return [f"{text} ({', '.join(where)})" if len(where) < len(runs) else text for text, where in pythons.items()]


def _targets(runs: Sequence[Results]) -> _Grid:
    grid = [["", "must", "aim", *(run.environment.python for run in runs)]]
    for key, target in TARGETS.items():
        must, aim = _limits(target)
        grid.append([target.what, must, aim, *(_verdict(run, key, target) for run in runs)])
    return grid


def _limits(target: Target) -> tuple[str, str]:
    """Return must and aim as text: one figure, or 3.11's and that of later versions."""
    musts = dict.fromkeys([target.must, target.must if target.later_must is None else target.later_must])
    aims = dict.fromkeys([target.aim, target.aim if target.later_aim is None else target.later_aim])
    return _limit(musts, target.unit), _limit(aims, target.unit)


def _limit(limits: Iterable[float | None], unit: str) -> str:
    texts = [f"{limit:,g}" for limit in limits if limit is not None]
    return f"{' / '.join(texts)} {unit}" if texts else "-"


def _verdict(run: Results, key: str, target: Target) -> str:
    row = next((row for table in run.tables for row in table.rows if row.target == key), None)
    if row is None:
        return _NOT_MEASURED
    return f"{figure(row)}: {target.mark(row.value, run.environment.python)}"


def _environments(runs: Sequence[Results]) -> _Grid:
    grid = [["Python", "run", "ended (UTC)", "harness's clock", "library's clock", "build", "processor", "versions"]]
    for run in runs:
        where = run.environment
        versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
        machine = f"{where.processor}, {where.processors} processors, {where.system}"
        how = [run.effort, where.date, where.timer, where.clock]
        grid.append([where.python, *how, where.build, machine, versions])
    return grid


def _environment_line(run: Results) -> str:
    where = run.environment
    place = f"Python {where.python} ({where.build}), {where.processor}"
    return f"{place}, clock {where.clock}, timed by {where.timer}, {where.date} UTC; {run.effort}"


def _aligned(grid: _Grid) -> str:
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in grid
    ]
    return "\n".join(lines)


def _bars(grid: _Grid) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in grid]
    return "\n".join([lines[0], "|" + " --- |" * len(grid[0]), *lines[1:]])
