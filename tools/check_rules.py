"""
House rules that no linter knows: functions of 60 lines at most, and no wall clock in the package.

A date that a person reads is no measured time: `# wall clock: why` on its line allows it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 60
_WALL_CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("date", "today"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("datetime", "utcnow"),
}


def main(folder: str) -> int:
    """Print every breach under the folder; return 1 if there is one."""
    breaches = [breach for path in sorted(Path(folder).rglob("*.py")) for breach in breaches_in(path)]
    print("\n".join(breaches) or f"{folder}: no function above {LONGEST} lines, no wall clock")
    return int(bool(breaches))


def breaches_in(path: Path) -> Iterator[str]:
    """Yield `file:line: what is wrong` for one module."""
    source = path.read_text()
    allowed = {number for number, line in enumerate(source.splitlines(), 1) if "# wall clock: " in line}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {LONGEST} are allowed"
        elif isinstance(node, ast.Attribute) and (_last_name(node.value), node.attr) in _WALL_CLOCKS:
            if node.lineno in allowed:
                continue
            yield f"{path}:{node.lineno}: {ast.unparse(node)} reads the wall clock; use resilio._native.clock"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for name in node.names:
                if ("time", name.name) in _WALL_CLOCKS:
                    yield f"{path}:{node.lineno}: from time import {name.name} reads the wall clock"


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
