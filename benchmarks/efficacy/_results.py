"""
The part of `benchmarks/RESULTS.md` that the simulations write: a section for each table, which a new run replaces.

`make bench` writes what stands before it and keeps it.
"""

from __future__ import annotations

import multiprocessing
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.efficacy import _studies

__all__ = ["HEADING", "RESULTS", "command", "kept", "record", "section", "show", "spread"]

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"
HEADING = "# Efficacy"
_ABOUT = (
    "The real policies on virtual time, each figure beside its analytic or published value; written by "
    "`python -m benchmarks.efficacy.<name> --record`."
)


def command(about: str | None) -> ArgumentParser:
    """Return the command line of a study, with the option `--record`."""
    parser = ArgumentParser(description=about)
    parser.add_argument("--record", action="store_true", help="write the tables into benchmarks/RESULTS.md")
    return parser


def show(title: str, text: str, *, recorded: bool) -> None:
    """Print a section, and write it into the report as well if it is `recorded`."""
    print(f"{title}\n\n{text}\n", flush=True)
    if recorded:
        record(title, text)


def spread(work: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return `work(*row)` for each row, computed by two processes."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return [each.result() for each in [pool.submit(work, *row) for row in rows]]


def section(about: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table in Markdown, with what is to be known about it above.

    Args:
        about: A paragraph or several.

        header: Of the columns.

        rows: Their cells.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join([about, "", *("| " + " | ".join(cells) + " |" for cells in lines)])


def kept(path: Path = RESULTS) -> str:
    """Return the part of a report that is the simulations', "" if there is none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _, found, rest = f"\n{text}".partition(f"\n{HEADING}\n")
    return f"\n{HEADING}\n{rest}" if found else ""


def record(title: str, text: str, path: Path = RESULTS) -> None:
    """
    Put a section into a report, in place of the one with the same title.

    Args:
        title: Of a study in `_studies`; begins with the table's number: "R8 metastable failure". Sections stand in the
            order of the numbers.

        text: From `section`.

        path: Of the report.
    """
    stamped = f"{text}\n\n{_studies.stamp(title)}"
    old = kept(path)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    before = before[: len(before) - len(old)] if old else before
    sections = {part.partition("\n")[0]: part for part in old.split("\n## ")[1:]}
    sections[title] = f"{title}\n\n{stamped}"
    parts = [f"\n## {sections[key].strip()}\n" for key in sorted(sections, key=_number)]
    path.write_text(f"{before}\n{HEADING}\n\n{_ABOUT}\n{''.join(parts)}", encoding="utf-8")


def _number(title: str) -> tuple[int, str]:
    number = re.search(r"\d+", title)
    return int(number.group()) if number else 0, title
