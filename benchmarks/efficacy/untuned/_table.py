"""The tables of a run: `standard`, `load_shed()` and `hedge()`, each with its worst cell first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.efficacy import _results
from benchmarks.efficacy.untuned._baselines import PEERS
from benchmarks.efficacy.untuned._cell import Cell
from benchmarks.efficacy.untuned._judge import MUSTS, Seen, Verdict, verdicts

__all__ = ["Row", "as_json", "report", "rows"]

_ENDS = ("/ n", "/ b", "missed")
_HEADERS = {
    "standard": ("cell", "nothing", "naive", *PEERS, "others", "oracle", "standard", "sent", "p99", *_ENDS),
    "load_shed()": ("cell", "nothing", "best of seven", "oracle", "load_shed()", "p99", "others", *_ENDS),
    "hedge()": ("cell", "nothing, p99", "no cap", "hedge()", "standard", "p99 over nothing's", "missed"),
}


@dataclass(frozen=True)
class Row:
    """
    A cell and what one stack of the library made of it.

    Attributes:
        cell: Which one.

        seen: What came of each stack.

        verdict: Of this one.
    """

    cell: Cell
    seen: Seen
    verdict: Verdict

    @property
    def of_oracle(self) -> float:
        """The stack's answers by those that were possible, 1 where that is not known."""
        return self.seen[self.verdict.subject].answered / self.cell.oracle if self.cell.oracle else 1.0

    def cells(self) -> tuple[str, ...]:
        """Return what stands in the table of its stack."""
        return {"standard": self._standard, "load_shed()": self._load_shed, "hedge()": self._hedge}[
            self.verdict.subject
        ]()

    def _standard(self) -> tuple[str, ...]:
        cell, seen = self.cell, self.seen
        ours = seen["standard"]
        theirs = (_answered(seen[name].answered, seen[name].sent) for name in ("nothing", "naive", *PEERS))
        figures = (
            self._others(),
            _share(cell.oracle),
            f"**{ours.answered:.3f}**",
            f"{ours.sent:.2f}",
            _seconds(ours.p99),
        )
        return (str(cell), *theirs, *figures, *self._end())

    def _load_shed(self) -> tuple[str, ...]:
        cell, seen, best = self.cell, self.seen, self.verdict.best
        ours = seen["load_shed()"]
        figures = (_share(cell.oracle), f"**{ours.answered:.3f}**", _seconds(ours.p99), self._others())
        first = f"{best} {seen[best].answered:.3f}" if cell.overloaded else "-"
        return (str(cell), f"{seen['nothing'].answered:.3f}", first, *figures, *self._end())

    def _hedge(self) -> tuple[str, ...]:
        seen = self.seen
        names = (name for name in ("hedge, no cap", "hedge()", "standard"))
        pairs = (f"{_seconds(seen[name].p99)}, {seen[name].sent:.3f}" if name in seen else "-" for name in names)
        ratio = seen["hedge()"].p99 / seen["nothing"].p99
        return (str(self.cell), _seconds(seen["nothing"].p99), *pairs, f"{ratio:.2f}", self.verdict.missed)

    def _others(self) -> str:
        names = (name for name in self.cell.also if "hedge" not in name)
        return "; ".join(f"{name} {self.seen[name].answered:.3f}" for name in names)

    def _end(self) -> tuple[str, str, str]:
        verdict = self.verdict
        return _share(verdict.over_simple), _share(verdict.over_peers), verdict.missed


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _seconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds:.2f} s"


def _answered(share: float, sent: float) -> str:
    """Say what was sent only where it is more than a few more, or fewer."""
    return f"{share:.3f}" if 0.9 <= sent <= 1.1 else f"{share:.3f} ({sent:.2f})"


def rows(seen: Iterable[tuple[Cell, Seen]]) -> list[Row]:
    """Return the rows of all cells, the worst first."""
    every = (Row(cell, figures, verdict) for cell, figures in seen for verdict in verdicts(cell, figures))
    return sorted(every, key=lambda row: (row.verdict.worst, row.of_oracle, str(row.cell)))


def report(of: Sequence[Row]) -> Iterator[str]:
    """
    Yield the sections in Markdown: the declared cells and the drawn ones apart, a table for each stack.

    Args:
        of: From `rows`.
    """
    for drawn, title in ((False, "Declared cells"), (True, "Cells drawn from seeds")):
        for subject, header in _HEADERS.items():
            mine = [row for row in of if row.cell.drawn == drawn and row.verdict.subject == subject]
            if mine:
                missed = sum(bool(row.verdict.missed) for row in mine)
                about = f"{title}, {subject}: {missed} of {len(mine)} miss a must."
                yield _results.section(f"### {about}", header, (row.cells() for row in mine))
    yield "\n".join(f"- {letter}: {meaning}" for letter, meaning in MUSTS.items())


def as_json(of: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the same with all figures of all stacks."""
    return [
        {
            "family": row.cell.family,
            "cell": row.cell.name,
            "drawn": row.cell.drawn,
            "subject": row.verdict.subject,
            "over_simple": row.verdict.over_simple,
            "over_peers": row.verdict.over_peers,
            "best": row.verdict.best,
            "missed": row.verdict.missed,
            "oracle": row.cell.oracle,
            "figures": {name: figures.as_json() for name, figures in row.seen.items()},
        }
        for row in of
    ]
