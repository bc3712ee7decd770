"""The scorecard: a column for each system, a row for each scenario, and the reason of each cell that did not pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import attrs

from benchmarks.failover._catalogue import SCENARIOS, Scenario
from benchmarks.failover._evidence import FALLBACK, PRIMARY, Evidence
from benchmarks.failover._judge import Outcome, judge

__all__ = ["Card", "Cell", "cell_of", "header", "reasons", "rows"]


@attrs.frozen
class Cell:
    """
    One scenario of one system.

    Attributes:
        outcome: The verdict.

        reason: Of any verdict but "pass".

        figures: Requests at the primary and at the fallback, and the seconds of the last call.
    """

    outcome: Outcome
    reason: str
    figures: str


@attrs.frozen
class Card:
    """
    One system's column.

    Attributes:
        name: With the version.

        cells: By the scenario's key; none if the system is not installed.
    """

    name: str
    cells: Mapping[str, Cell]


def cell_of(scenario: Scenario, found: Evidence) -> Cell:
    """
    Return the cell of a scenario.

    Args:
        scenario: Its rules.

        found: What it showed.
    """
    verdict = judge(found, scenario.checks, scenario.ideal)
    first, other = (len(found.at(endpoint)) for endpoint in (PRIMARY, FALLBACK))
    return Cell(verdict.outcome, verdict.reason, f"{first}+{other}, {found.call.seconds:.1f} s")


def header(cards: Sequence[Card]) -> list[str]:
    """
    Return the titles of the columns.

    Args:
        cards: The systems.
    """
    return ["", "fault", *(card.name for card in cards)]


def rows(cards: Sequence[Card]) -> Iterator[list[str]]:
    """
    Yield a row for each scenario that was played, and one for each outcome with its number.

    Args:
        cards: The systems.
    """
    for scenario in SCENARIOS:
        cells = [card.cells.get(scenario.key) for card in cards]
        if any(cells):
            yield [
                scenario.key,
                scenario.title,
                *(f"{cell.outcome} ({cell.figures})" if cell else "-" for cell in cells),
            ]
    for outcome in get_args(Outcome):
        counts = [sum(cell.outcome == outcome for cell in card.cells.values()) for card in cards]
        yield ["", outcome, *(str(count) if card.cells else "-" for card, count in zip(cards, counts, strict=True))]


def reasons(cards: Sequence[Card]) -> Iterator[str]:
    """
    Yield a line for each cell that did not pass.

    Args:
        cards: The systems.
    """
    for card in cards:
        for key, cell in card.cells.items():
            if cell.outcome != "pass":
                yield f"{card.name}, {key}: {cell.outcome}: {cell.reason}"
