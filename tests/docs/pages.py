"""The pages of README and docs/ with their Python snippets, as the tests of the documentation see them."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Snippet", "as_file", "as_typed_files", "guides", "pages", "runs_as_a_file", "snippets_of"]

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"(?:^[ \t]*<!-- snippet: (?P<directive>skip|raises): (?P<detail>.+?) -->[ \t]*\n+)?"
    r"^(?P<indent>[ \t]*)```(?:python|python3|py)[ \t]*\n(?P<code>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_AS_A_FILE = re.compile(r"\bruns\s+as\s+(?:it\s+stands|pasted)\b")
_FILE_A_SECTION = "Each section is one file"
_GIVEN = "url = str(); stop_the_server: Callable[[], None] = print; start_the_server: Callable[[], None] = print"
_ELSEWHERE = re.compile(r"<!-- snippets: run by (?P<test>\S+): .+? -->")


@dataclass(frozen=True)
class Snippet:
    """One fenced block, the line of its first statement in the page, and what is to be done with it."""

    code: str
    line: int
    directive: str | None
    detail: str | None

    @property
    def holds_tests(self) -> bool:
        """Does it define functions that pytest would collect?"""
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tree = compile(self.code, "<snippet>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return any(isinstance(node, functions) and node.name.startswith("test_") for node in tree.body)


def snippets_of(text: str) -> list[Snippet]:
    """Return the Python blocks of a page in their order."""
    return [
        Snippet(
            textwrap.dedent(match["code"]),
            text.count("\n", 0, match.start("code")),
            match["directive"],
            match["detail"],
        )
        for match in _FENCE.finditer(text)
    ]


def pages() -> list[Path]:
    """README and all pages under docs/ that show Python, but for those that another test runs."""
    return [path for path in _candidates() if not _ELSEWHERE.search(path.read_text(encoding="utf-8"))]


def guides() -> list[Path]:
    """The pages whose snippets another test runs, with the client, the framework or the server that they need."""
    return [path for path in _candidates() if _ELSEWHERE.search(path.read_text(encoding="utf-8"))]


def _candidates() -> list[Path]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    elsewhere = {"_build", "migration"}
    return [path for path in found if not elsewhere.intersection(path.parts) and snippets_of(path.read_text())]


def as_file(text: str) -> str:
    """Return the snippets of a page as one file, each at its own lines."""
    lines = [""] * (text.count("\n") + 1)
    for snippet in snippets_of(text):
        if snippet.directive != "skip":
            code = snippet.code.splitlines()
            lines[snippet.line : snippet.line + len(code)] = code
    return "\n".join(lines) + "\n"


def as_typed_files(text: str) -> list[str]:
    """
    Return the snippets of a guide as files for type checkers, each line at its own place.

    A guide is one file, or one a section if it says so. Where it awaits outside of a function it is the body of one.
    """
    parts = [text]
    if _FILE_A_SECTION in text:
        heads = [match.start() for match in re.finditer(r"^## ", text, re.MULTILINE)]
        bounds = list(zip(heads, [*heads[1:], len(text)], strict=True))
        parts = ["\n" * text.count("\n", 0, start) + text[start:end] for start, end in bounds]
    return [_with_given(as_file(part)) for part in parts]


def _with_given(code: str) -> str:
    """Declare the names that a test gives to a guide, in the lines of its title."""
    head, lines = ["from collections.abc import Callable", _GIVEN, ""], code.splitlines()[3:]
    try:
        compile(code, "<guide>", "exec")
    except SyntaxError:
        head[2], lines = "async def page() -> None:", [f"    {line}" if line else line for line in lines]
    return "\n".join([*head, *lines, ""])


def runs_as_a_file(page: Path) -> bool:
    """Does the page promise that its snippets, in one file, run?"""
    return bool(_AS_A_FILE.search(page.read_text(encoding="utf-8")))
