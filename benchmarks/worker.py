"""One Python's part of the suite: measures, and prints its results as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys

import attrs

from benchmarks.micro._results import to_json
from benchmarks.micro._runner import FULL, QUICK, measure_all, measure_comparisons
from benchmarks.peers import peers

__all__ = ["main"]


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    plan = QUICK if options.quick else FULL
    if options.only is not None:
        results = measure_comparisons(plan.effort, peers(), options.only)
    else:
        plan = plan if options.callgrind else attrs.evolve(plan, callgrind_calls=0)
        child = ["-W", "ignore", "-m", "benchmarks.worker", *["--quick"] * options.quick, "--only"]
        results = measure_all(plan, peers(), child, _say)
    print(json.dumps(to_json(results)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rough figures in a fraction of the time")
    parser.add_argument("--callgrind", action="store_true", help="count instructions as well")
    parser.add_argument("--only", nargs="*", metavar="KEY", help="comparisons only, in this process; all, or these")
    return parser


def _say(text: str) -> None:
    print(f"{platform.python_version()}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
