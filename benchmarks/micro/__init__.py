"""
Microbenchmarks of this library alone: `python -m benchmarks.micro`.

They compare the library with an empty wrapper around the same function, measured in turns in one process. `make bench`
runs the same comparisons with other libraries beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the benchmarks and print the report.

    Args:
        arguments: `--quick` for seconds instead of minutes, `--callgrind` for instruction counts, `--json` for records;
            None: those of the process.

    Returns:
        The exit code: 0, also when a target is missed; the report says so.
    """
    # Only here: who imports the package to look at it should not pay for, or start, a benchmark.
    import attrs

    from benchmarks.micro._report import terminal
    from benchmarks.micro._results import to_json
    from benchmarks.micro._runner import FULL, QUICK, Peers, measure_all, measure_comparisons

    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    if options.only is not None:
        results = measure_comparisons(plan.effort, Peers(), options.only)
    else:
        plan = plan if options.callgrind else attrs.evolve(plan, callgrind_calls=0)
        child = ["-m", "benchmarks.micro", "--json", *["--quick"] * options.quick, "--only"]
        results = measure_all(plan, Peers(), child, _say)
    print(json.dumps(to_json(results)) if options.json else terminal([results]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description="Measure resilio on this machine.")
    parser.add_argument("--quick", action="store_true", help="rough figures in seconds")
    parser.add_argument("--callgrind", action="store_true", help="count instructions as well, with valgrind: minutes")
    parser.add_argument("--only", nargs="*", metavar="KEY", help="comparisons only, in one process; all, or these")
    parser.add_argument("--json", action="store_true", help="records instead of tables")
    return parser


def _say(text: str) -> None:
    print(f"measuring: {text}", file=sys.stderr, flush=True)
