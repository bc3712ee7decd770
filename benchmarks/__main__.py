"""
`python -m benchmarks`: the suite on several Pythons, into one report.

Each Python measures in a process of its own, one after the other. The other libraries are measured where they are
installed; a missing one is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._elsewhere import elsewhere
from benchmarks.efficacy._results import kept
from benchmarks.micro._report import markdown, terminal
from benchmarks.micro._results import Results, from_json

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "benchmarks" / "RESULTS.md"
INTRODUCTION = (
    "Written by `make bench`. How the figures come about, and what they do not say, is in "
    "[docs/explanation/benchmarks.md](../docs/benchmarks.md).\n\n"
    "W is what the empty wrapper `async def w(*a, **k): return await f(*a, **k)` adds to a bare `await f()`, and for "
    "sync functions its sync twin; a figure in W is what a subject adds, divided by that. A figure is the "
    "median of several processes, in each of which all subjects take turns; ± is half the distance from the lowest of "
    "them to the highest. The clock is the one that the subject reads while it works. What other processors met of the "
    "targets stands below the tables."
)
# An installed resilio goes before the one of the repository.
_WORKER = "import sys; sys.path.append({root!r}); from benchmarks.worker import main; main()"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on every Python, print the report and write it; the exit code is 1 if a Python could not measure."""
    options = _parser().parse_args(arguments)
    runs = [_measure(python, options) for python in options.pythons or [sys.executable]]
    done = [run for run in runs if run is not None]
    if done:
        print(terminal(done))
        others = elsewhere(options.output, done[-1].environment.processor)
        options.output.write_text(markdown(done, INTRODUCTION) + others + kept(options.output), encoding="utf-8")
        print(f"\nwritten: {options.output}")
    return 0 if len(done) == len(runs) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--pythons", nargs="+", metavar="PYTHON", help="interpreters that have resilio; default: this one"
    )
    parser.add_argument("--quick", action="store_true", help="a rough figure in a fraction of the time")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the Markdown goes")
    parser.add_argument("--no-callgrind", dest="callgrind", action="store_false", help="leave instruction counts out")
    return parser


def _measure(python: str, options: argparse.Namespace) -> Results | None:
    command = [python, "-P", "-W", "ignore", "-c", _WORKER.format(root=str(ROOT))]
    command += ["--quick"] * options.quick + ["--callgrind"] * options.callgrind
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{python} could not measure", flush=True)
        return None
    return from_json(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
