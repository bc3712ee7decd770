"""
House rules that no linter knows: short functions, documented names, no wall clock, modules under their own names.

- A function has 60 lines at most.
- Each public function and method has a docstring, in private modules and classes too; a method that overrides one may
  inherit it. Linters ask for it in public modules alone.
- No module reads the wall clock. A date that a person reads is no measured time: `# wall clock: why` allows it.
- No import hides a name behind an alias that begins with an underscore.
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
_BARE = {"ABC", "Enum", "Exception", "Generic", "NamedTuple", "Protocol", "object"}
"""Bases that have no docstrings to inherit."""


def main(folder: str) -> int:
    """Print every breach under the folder; return 1 if there is one."""
    breaches = [breach for path in sorted(Path(folder).rglob("*.py")) for breach in breaches_in(path)]
    print("\n".join(breaches) or f"{folder}: functions short and documented, no wall clock")
    return int(bool(breaches))


def breaches_in(path: Path) -> Iterator[str]:
    """Yield `file:line: what is wrong` for one module."""
    source = path.read_text()
    allowed = {number for number, line in enumerate(source.splitlines(), 1) if "# wall clock: " in line}
    tree = ast.parse(source)
    yield from (
        f"{path}:{node.lineno}: {node.name} has no docstring" for node in _undocumented(tree.body, inherits=False)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {LONGEST} are allowed"
        elif isinstance(node, ast.Attribute) and (_last_name(node.value), node.attr) in _WALL_CLOCKS:
            if node.lineno in allowed:
                continue
            yield f"{path}:{node.lineno}: {ast.unparse(node)} reads the wall clock; use resilio._native.clock"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            module = getattr(node, "module", None)
            for name in node.names:
                if (name.asname or "").startswith("_"):
                    yield f"{path}:{node.lineno}: {name.name} is imported as {name.asname}; use its own name"
                if module == "time" and ("time", name.name) in _WALL_CLOCKS:
                    yield f"{path}:{node.lineno}: from time import {name.name} reads the wall clock"


def _undocumented(body: list[ast.stmt], *, inherits: bool) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """
    Yield the public functions without a docstring.

    Args:
        body: Statements of a module or a class.

        inherits: Whether they may inherit one, because the class has a base.
    """
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, inherits=any(_base_name(base) not in _BARE for base in node.bases))
        elif isinstance(node, ast.If):
            yield from _undocumented([*node.body, *node.orelse], inherits=inherits)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {_last_name(one) for one in node.decorator_list}
            is_public = not node.name.startswith("_") and not decorators & {"overload", "setter"}
            if is_public and not inherits and ast.get_docstring(node) is None:
                yield node


def _base_name(node: ast.expr) -> str:
    return _last_name(node.value if isinstance(node, ast.Subscript) else node)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
