"""
Reports which lines of the hand-written C the tests reached, by gcov, from the counters that a coverage build leaves.

A header is compiled into several modules: a line counts as reached if it was in one of them. Lines that a compiler
turned into nothing in every module are not counted, nor are lines with `GCOV_EXCL_LINE` and those from
`GCOV_EXCL_START` to `GCOV_EXCL_STOP`: what cannot be reached where coverage is measured, with the reason beside it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path


def measure(build: Path) -> dict[str, dict[int, int]] | None:
    """
    Return how often each line of each file under src_c/ ran; None without gcov.

    Args:
        build: The tree in which the coverage build took place.
    """
    gcov = shutil.which("gcov")
    counters = sorted(str(path.relative_to(build)) for path in build.rglob("*.gcda"))
    if gcov is None or not counters:
        return None
    command = [gcov, "--json-format", "--stdout", *counters]
    output = subprocess.run(command, cwd=build, capture_output=True, text=True, check=True).stdout
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for line in output.splitlines():
        for file in json.loads(line)["files"]:
            if _by_hand(build, file["file"]):
                seen = counts[file["file"]]
                for entry in file["lines"]:
                    seen[entry["line_number"]] = max(seen.get(entry["line_number"], 0), entry["count"])
    return {name: _without_excluded(build / name, lines) for name, lines in counts.items()}


def _without_excluded(source: Path, counts: dict[int, int]) -> dict[int, int]:
    excluded, inside = set(), False
    for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
        inside = (inside or "GCOV_EXCL_START" in line) and "GCOV_EXCL_STOP" not in line
        if inside or "GCOV_EXCL_" in line:
            excluded.add(number)
    return {number: count for number, count in counts.items() if number not in excluded}


def report(build: Path) -> float | None:
    """Print the files that were not reached as a whole, and return the percentage of lines reached."""
    counts = measure(build)
    if counts is None:
        print("coverage of C: no gcov or no counters: SKIPPED", flush=True)
        return None
    width = max(map(len, counts))
    for name in sorted(counts):
        missed = [line for line, count in counts[name].items() if not count]
        if missed:
            share = 100.0 * (1 - len(missed) / len(counts[name]))
            print(f"{name:<{width}} {len(counts[name]):>5} {len(missed):>5} {share:>7.1f}%   {_ranges(missed)}")
    lines = [count for file in counts.values() for count in file.values()]
    return 100.0 * sum(count > 0 for count in lines) / len(lines)


def forget(build: Path) -> None:
    """Remove the counters of earlier runs."""
    for path in build.rglob("*.gcda"):
        path.unlink()


def _by_hand(build: Path, name: str) -> bool:
    """Leaves out what Cython wrote beside its source."""
    return name.startswith("src_c/") and not (build / name).with_suffix(".pyx").exists()


def _ranges(numbers: list[int]) -> str:
    """`1-3, 7` for 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return words if len(words) < 120 else words[:117] + "..."
