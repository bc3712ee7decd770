"""How much processor time an import takes: fresh processes, in turns, their bytecode already compiled."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.micro._child import child
from benchmarks.micro._harness import summary
from benchmarks.micro._results import Row, Table

__all__ = ["import_table"]

_OURS = "import resilio"
_BASE = "import anyio, attrs"
_CHILD = "from time import process_time_ns as now; start = now(); {}; print(now() - start)"


def import_table(rounds: int) -> Table:
    """Return the table of what `import resilio` takes beside what it depends on."""
    series = _measure([_BASE, _OURS], rounds)
    ratios = summary([ours / base for ours, base in zip(series[_OURS], series[_BASE], strict=True)])
    rows = [_row(statement, series[statement]) for statement in (_BASE, _OURS)]
    rows.append(
        Row(f"{_OURS} / {_BASE}", ratios.value, "x", ratios.low, ratios.high, clock="process_time", target="import")
    )
    return Table("import", "Import", f"Fresh processes in turns, {rounds} of each, bytecode compiled.", tuple(rows))


def _measure(statements: Sequence[str], rounds: int) -> dict[str, list[float]]:
    order = list(statements)
    shuffle = random.Random(1).shuffle
    for statement in order:
        _import_ns(statement)
    series: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(rounds):
        shuffle(order)
        for statement in order:
            series[statement].append(_import_ns(statement))
    return series


def _import_ns(statement: str) -> float:
    # Bytecode must be kept: a package that was installed has it already, and one in a source tree is not to blame.
    return float(child(["-c", _CHILD.format(statement)], PYTHONDONTWRITEBYTECODE=""))


def _row(statement: str, series: Sequence[float]) -> Row:
    figure = summary([ns / 1000 for ns in series])
    return Row(statement, figure.value, "us", figure.low, figure.high, clock="process_time")
