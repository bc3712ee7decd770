"""Runs of cells, each in a process of its own, which are kept, so that an interrupted run continues."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from benchmarks.efficacy.untuned._cell import Cell
from benchmarks.efficacy.untuned._judge import Seen
from benchmarks.efficacy.untuned._run import Figures, compared
from resilio._native import clock
from resilio.testing import virtual_time

__all__ = ["Finished", "alone", "begin", "processes", "runs"]

_BEGIN_HOUR = 2000  # beyond the uptime of most machines; a float of that size still resolves a nanosecond
_HOUR_NS = 3600 * 10**9


class Finished:
    """
    The cells that are done, one in each line of a file.

    Args:
        path: Of the file; None: they are not kept.

        seeds: Of the calls and of the drawn cells. Lines of other ones are passed over.
    """

    def __init__(self, path: Path | None, seeds: tuple[int, int]) -> None:
        self.path, self.seeds = path, list(seeds)
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        found = [line for line in map(json.loads, lines) if line["seeds"] == self.seeds]
        self.seen: dict[str, Seen] = {
            line["cell"]: {name: Figures(**fields) for name, fields in line["seen"].items()} for line in found
        }

    def add(self, cell: Cell, seen: Seen) -> None:
        """Append what came of a cell."""
        self.seen[str(cell)] = seen
        if self.path:
            figures = {name: asdict(one) for name, one in seen.items()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cell": str(cell), "seeds": self.seeds, "seen": figures}) + "\n")


def begin() -> None:
    """
    Let virtual time begin at the same hour on each machine, in a process that has run nothing else.

    Seconds are floats, and the last bit of a later one may change which of two calls is first.
    """
    with virtual_time() as vt:
        vt.advance(max(0, _BEGIN_HOUR * _HOUR_NS - clock.now_ns()) / 1e9)


def processes(jobs: int) -> ProcessPoolExecutor:
    """Return a pool in which each task has a process of its own."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)


def alone(cell: Cell, seed: int) -> dict[str, Figures]:
    """
    Put all stacks of a cell through it, in a process that has run nothing else.

    Args:
        cell: Which one.

        seed: Of the arrivals, the world and the stacks.
    """
    begin()
    return compared(cell, seed)


def runs(cells: Sequence[Cell], seed: int, jobs: int, finished: Finished) -> Iterator[tuple[Cell, Seen]]:
    """
    Yield what came of each cell; those that are finished are not run again.

    Args:
        cells: Which ones.

        seed: Of the arrivals, the worlds and the stacks.

        jobs: How many processes run at a time.

        finished: Gets each cell as it ends.
    """
    left = [cell for cell in cells if str(cell) not in finished.seen]
    with processes(jobs) as pool:
        futures = {pool.submit(alone, cell, seed): cell for cell in left}
        for number, future in enumerate(as_completed(futures), len(cells) - len(left) + 1):
            finished.add(futures[future], future.result())
            print(f"{number} of {len(cells)}: {futures[future]}", file=sys.stderr, flush=True)
    yield from ((cell, finished.seen[str(cell)]) for cell in cells)
