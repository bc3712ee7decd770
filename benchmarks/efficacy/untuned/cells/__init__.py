"""The cells, those that are declared and those that are drawn from seeds, which are reported apart."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

from benchmarks.efficacy.untuned._cell import Cell
from benchmarks.efficacy.untuned.cells import batches, budgets, quotas, recovery, replicas, servers

__all__ = ["CELLS", "drawn", "families"]

_PARTS = (batches, replicas, budgets, quotas, servers, recovery)
CELLS: tuple[Cell, ...] = tuple(cell for part in _PARTS for cell in part.CELLS)
"""Those that are declared: their names are the issue's samples, and what lies beside them."""


def drawn(seed: int, times: int = 3) -> tuple[Cell, ...]:
    """
    Draw cells of all families.

    Args:
        seed: Of their parameters; choose one that no law has seen.

        times: How many of each kind.
    """
    cells: list[Cell] = []
    for number in range(times):
        for part in _PARTS:
            source = random.Random(f"{seed} {number} {part.__name__}")
            cells += (dataclasses.replace(cell, drawn=True) for cell in part.draw(source))
    return tuple(cells)


def families(cells: Iterable[Cell]) -> list[str]:
    """Return the families of cells, each once, in their order."""
    return list(dict.fromkeys(cell.family for cell in cells))
