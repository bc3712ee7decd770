"""The rows of the page that lists the private names of others, which tests compare with the sources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["Row", "private_names"]


class Row(NamedTuple):
    """One row of a table of the page, cell by cell."""

    name: str
    of: str
    where: str
    versions: str
    check: str
    otherwise: str

    @property
    def words(self) -> set[str]:
        """The identifiers that stand for it in the sources."""
        return {word for code in re.findall("`([^`]+)`", self.name) for word in re.findall(r"[\w-]+", code)}


def private_names(source: Path) -> list[Row]:
    """Return all rows of the page in this source tree."""
    text = (source / "docs" / "reference" / "private-names.md").read_text()
    cells = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = [Row(*(cell.strip() for cell in line)) for line in cells]
    return [row for row in rows if row.name not in ("what", "---")]
