"""What a run found, as plain records that go through JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Environment", "Results", "Row", "Skip", "Table", "from_json", "to_json"]


@attrs.frozen
class Row:
    """
    One subject's figure.

    Attributes:
        subject: What was measured.

        value: The median, in *unit*; *low* and *high* are the quartiles.

        unit: "W" (empty wrappers), "x" (a ratio), "ns", "us", "bytes", "%", "instructions".

        ns: Nanoseconds behind a value in W, else None.

        clock: The clock that the subject read while it was measured.

        note: What a reader must know to compare.

        target: Key of the target that the value is held against, or None.
    """

    subject: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    ns: float | None = None
    clock: str = "-"
    note: str = ""
    target: str | None = None


@attrs.frozen
class Skip:
    """A subject that was not measured, and why."""

    subject: str
    reason: str


@attrs.frozen
class Table:
    """Rows that may be compared with each other."""

    key: str
    title: str
    about: str
    rows: tuple[Row, ...] = ()
    skips: tuple[Skip, ...] = ()


@attrs.frozen
class Environment:
    """
    Where and when a run took place.

    Attributes:
        python: Its version.

        build: Implementation, threading, compiler.

        system: Operating system and architecture.

        processor: Its name, as the system says it.

        processors: How many.

        clock: What the library's own clock reads.

        date: When the run ended, in UTC.

        versions: Of the distributions measured.

        timer: What the harness reads.
    """

    python: str
    build: str
    system: str
    processor: str
    processors: int
    clock: str
    date: str
    versions: Mapping[str, str]
    timer: str = "not recorded"


@attrs.frozen
class Results:
    """One run on one Python; *effort* says how thorough it was."""

    environment: Environment
    tables: tuple[Table, ...]
    effort: str = "not recorded"


def to_json(results: Results) -> dict[str, Any]:
    """Return *results* as plain dicts and lists."""
    return attrs.asdict(results)


def from_json(data: Mapping[str, Any]) -> Results:
    """Return the results that `to_json` made *data* of."""
    tables = tuple(_table(table) for table in data["tables"])
    return Results(Environment(**data["environment"]), tables, data["effort"])


def _table(data: Mapping[str, Any]) -> Table:
    rows = tuple(Row(**row) for row in data["rows"])
    skips = tuple(Skip(**skip) for skip in data["skips"])
    return Table(data["key"], data["title"], data["about"], rows, skips)
