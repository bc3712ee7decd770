"""
What `make bench` measured on other processors: the targets of the last run on each stay in the report.

A ratio of two short pieces of code depends on the processor: those of one machine alone say too much or too little.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["HEADING", "elsewhere"]

HEADING = "# On other processors"
_ABOUT = "The targets as the last run on each kind of processor met or missed them; the code may have changed since."


def elsewhere(report: Path, processor: str) -> str:
    """
    Return the records of other processors that a report holds, as a part of the next report; "" if there are none.

    Args:
        report: The report that will be replaced; it need not exist.

        processor: On which the next one was measured.
    """
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    before, _, rest = f"\n{text}".partition(f"\n{HEADING}\n")
    records = dict(re.findall(r"^## (.+)\n\n((?:(?!#).*\n?)*)", rest.partition("\n# ")[0], re.MULTILINE))
    if own := _own(before):
        records.update([own])
    records.pop(processor, None)
    parts = [f"\n## {name}\n\n{record.strip()}\n" for name, record in sorted(records.items())]
    return f"\n{HEADING}\n\n{_ABOUT}\n{''.join(parts)}" if parts else ""


def _own(text: str) -> tuple[str, str] | None:
    """The processor that a report was measured on, and what it says of the targets."""
    environments, targets = (
        re.search(rf"^## {title}.*\n\n((?:\|.*\n)+)", text, re.MULTILINE) for title in ("Where", "Targets")
    )
    if environments is None or targets is None:
        return None
    last = [cell.strip() for cell in environments[1].splitlines()[-1].strip("|").split(" | ")]
    return last[6].partition(",")[0], f"Ended {last[2]} UTC.\n\n{targets[1]}"
