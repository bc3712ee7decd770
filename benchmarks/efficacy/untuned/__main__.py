"""
`python -m benchmarks.efficacy.untuned`: where the defaults help, and where doing nothing would be better.

Each cell is a dependency in some trouble; its calls meet the bare call, a naive client, the documented defaults of
others, and `standard`, `load_shed()` and `hedge()` as they come, with the real policies on virtual time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.efficacy.untuned._record import record
from benchmarks.efficacy.untuned._runs import Finished, runs
from benchmarks.efficacy.untuned._table import as_json, report, rows
from benchmarks.efficacy.untuned.cells import CELLS, drawn, families

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells and print the tables; the exit code says whether a must was missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    every = CELLS + drawn(options.drawn, options.times)
    wanted = [cell for cell in every if not options.family or cell.family in options.family]
    wanted = [cell for cell in wanted if options.cell in str(cell)]
    if not wanted:
        parser.error(f"no cell is left; the families are: {', '.join(families(every))}")
    if options.record and wanted != list(every):
        parser.error("--record is for a run of all cells")
    finished = Finished(options.resume, (options.seed, options.drawn))
    seen = rows(runs(wanted, options.seed, options.jobs, finished))
    if options.record:
        record(seen, options.seed, options.drawn)
    print(json.dumps(as_json(seen), indent=1) if options.json else "\n\n".join(report(seen)))
    return int(any(row.verdict.missed for row in seen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.efficacy.untuned", description=__doc__)
    parser.add_argument("--family", action="append", help="only cells of this family; may be given several times")
    parser.add_argument("--cell", default="", help="only cells with this in their name")
    parser.add_argument("--seed", type=int, default=1, help="of the calls, the worlds and the stacks (1)")
    parser.add_argument("--drawn", type=int, default=1, metavar="SEED", help="of the cells that are drawn (1)")
    parser.add_argument("--times", type=int, default=3, help="cells drawn of each kind (3); 0: none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep finished cells there, and skip those it has")
    parser.add_argument(
        "--record", action="store_true", help="into benchmarks/RESULTS.md and docs/explanation/defaults.md"
    )
    parser.add_argument("--json", action="store_true", help="all figures of all stacks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
