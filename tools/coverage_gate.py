"""
Reports the coverage of Python and Cython lines and rejects less than the gate.

A tracer that misses the Cython files leaves them out of the report, and the total still looks fine; a module that no
test imports is left out as well. So the gate asks for each file by name.

What an included file (.pxi) runs when its module is loaded, definitions of functions among it, Cython tells as lines of
the file that includes it. The table shows such lines as missed; the gate knows better.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import c_coverage
from environments import ROOT, Environment

GATE = 95.0
_KINDS = {"Python lines and branches": (".py",), "Cython lines": (".pyx", ".pxd", ".pxi")}


def check_coverage(environment: Environment, tree: Path, build: Path) -> str:
    """Print the report and what is wrong with it, which fails the run; RESILIO_COVERAGE_GATE=0 only says it."""
    problem = _problem(environment, tree, build)
    if problem:
        print(f"coverage: NOT MET: {problem}", flush=True)
    return "" if os.environ.get("RESILIO_COVERAGE_GATE") == "0" else problem


def _problem(environment: Environment, tree: Path, build: Path) -> str:
    """
    Print the report of the run in this tree and return what is wrong with it, or an empty string.

    Args:
        environment: Where the run took place.

        tree: The folder that it ran in, with its data files.

        build: The folder in which its wheel was built, with gcov's.
    """
    shutil.copytree(ROOT / "resilio", tree / "resilio", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    command = [environment.python, str(ROOT / "tools" / "coverage_files.py")]
    done = subprocess.run(command, cwd=tree, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return f"no coverage report: {done.stderr.strip().splitlines()[-1]}"
    report = json.loads((tree / "coverage.json").read_text())
    in_c = c_coverage.report(build)
    missing = sorted(_expected() - {_module(name) for name in report["files"]})
    if missing:
        return f"not in the coverage report: {', '.join(missing)}"
    totals = {kind: _percent(report["files"], *suffixes) for kind, suffixes in _KINDS.items()}
    if in_c is not None:
        totals["C lines"] = in_c
    words = ", ".join(f"{kind} {percent:.1f} %" for kind, percent in totals.items())
    print(f"coverage: {words} (gate {GATE:.0f} % each)", flush=True)
    low = [f"{kind} {percent:.1f} %" for kind, percent in totals.items() if percent < GATE]
    return f"coverage below {GATE:.0f} %: {', '.join(low)}" if low else ""


def _expected() -> set[str]:
    """Every module of the package with code in it, and every Cython source."""
    python = [path for path in (ROOT / "resilio").rglob("*.py") if path.read_text().strip()]
    cython = list((ROOT / "src_c" / "resilio").rglob("*.pyx")) + list((ROOT / "src_c" / "resilio").rglob("*.pxi"))
    return {_module(str(path.relative_to(ROOT))) for path in python + cython}


def _module(name: str) -> str:
    """`src_c/resilio/_native/clock.pyx` and `.../site-packages/resilio/errors.py` from `resilio/` on."""
    return name[name.rindex("resilio/") :] if name.count("resilio/") == 1 else name[name.index("resilio/") :]


def _percent(files: dict[str, dict], *suffixes: str) -> float:
    found = {name: entry for name, entry in files.items() if name.endswith(suffixes)}
    summaries = [entry["summary"] for entry in found.values()]
    covered = sum(each["covered_lines"] + each.get("covered_branches", 0) for each in summaries)
    covered += sum(_loaded(ROOT / name, entry) for name, entry in found.items() if name.endswith(".pxi"))
    total = sum(each["num_statements"] + each.get("num_branches", 0) for each in summaries)
    return 100.0 * covered / total if total else 0.0


_FUNCTION = re.compile(r"\s*(def|cdef|cpdef)\b(?! class\b)[^=]*\(")


def _loaded(included: Path, entry: dict) -> int:
    """Count the lines shown as missed that were run when the module was loaded, as it was if any of its lines was."""
    lines = included.read_text().splitlines()
    return sum(not _in_function(lines, number) for number in entry["missing_lines"]) if entry["executed_lines"] else 0


def _in_function(lines: list[str], number: int) -> bool:
    """Tell whether a line, counted from 1, stands in the body of a function."""
    indent = _indent(lines[number - 1])
    for line in reversed(lines[: number - 1]):
        if line.strip() and _indent(line) < indent:
            if _FUNCTION.match(line):
                return True
            indent = _indent(line)
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
