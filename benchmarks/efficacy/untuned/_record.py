"""Puts the tables into `benchmarks/RESULTS.md`, and a row for each family into `docs/explanation/defaults.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.efficacy import _results
from benchmarks.efficacy.untuned._table import Row, report

__all__ = ["PAGE", "record", "with_families"]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "defaults.md"
_HEADER = ("family", "cells", "miss a must", "the worst", "nothing", "naive", "best peer", "ours", "possible")
_BLOCK = re.compile(r"(<!-- untuned: (declared|drawn) -->\n).*?(\n<!-- end -->)", re.DOTALL)
_TITLES = {False: "Untuned cells", True: "Untuned cells that were drawn"}


def record(of: Sequence[Row], seed: int, drawn: int, report_path: Path = _results.RESULTS, page: Path = PAGE) -> None:
    """
    Write the tables of a whole run.

    Args:
        of: From `rows`.

        seed: Of the calls.

        drawn: The seed of the cells that were drawn.

        report_path: Of the report.

        page: With a row for each family.
    """
    for kind, title in _TITLES.items():
        mine = [row for row in of if row.cell.drawn == kind]
        about = f"Seed {seed} of the calls" + (f", {drawn} of the cells." if kind else ".")
        _results.record(title, "\n\n".join([about, *report(mine)]), report_path)
    page.write_text(with_families(page.read_text(encoding="utf-8"), of), encoding="utf-8")


def with_families(text: str, of: Sequence[Row]) -> str:
    """Return the page with its tables made anew; they stand between `<!-- untuned: declared -->` and `<!-- end -->`."""

    def table(match: re.Match[str]) -> str:
        mine = [row for row in of if row.cell.drawn == (match[2] == "drawn")]
        missed = sum(bool(row.verdict.missed) for row in mine)
        about = f"Of {len(mine)} comparisons {missed} miss a must."
        return match[1] + _results.section(about, _HEADER, _families(mine)) + match[3]

    return _BLOCK.sub(table, text)


def _families(of: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each family and stack of ours; rows come with the worst first."""
    families: dict[tuple[str, str], list[Row]] = {}
    for row in of:
        families.setdefault((row.cell.family, row.verdict.subject), []).append(row)
    for (family, subject), rows in sorted(families.items()):
        missed = sum(bool(row.verdict.missed) for row in rows)
        yield (f"{family}, `{subject}`", f"{len(rows)}", f"{missed or '-'}", *_worst(rows[0]))


def _worst(row: Row) -> tuple[str, ...]:
    seen, subject, best = row.seen, row.verdict.subject, row.verdict.best
    nothing = seen["nothing"]
    if subject == "hedge()":
        return (row.cell.name, f"p99 {nothing.p99:.2f} s", "", "", f"p99 {seen[subject].p99:.2f} s", "")
    naive = f"{seen['naive'].answered:.3f}" if "naive" in seen else ""
    peer = f"{best} {seen[best].answered:.3f}" if best != "nothing" else ""
    possible = "" if row.cell.oracle is None else f"{row.cell.oracle:.3f}"
    return (row.cell.name, f"{nothing.answered:.3f}", naive, peer, f"{seen[subject].answered:.3f}", possible)
