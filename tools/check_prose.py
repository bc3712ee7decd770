"""
The prose rule of docs/contributing/style.md, over comments and docstrings of Python, Cython and C.

A sentence has at most 30 words; an agent is a noun; a docstring begins with a noun or an imperative.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST = 30
ALLOWED = 5.0  # terms that the rule bans, per 10,000 lines of source

BANNED = (
    r"(?:no|some|any|every)body(?:'s)?",
    r"who(?:so)?ever",
    r"whatever is",
    r"(?:those|these|he|they|one|anyone|someone|everyone|that) who",
    r"who (?:does|do|is|has|asks?|says?|calls?|waits?|wants?|knows?|comes?|leaves?)",
    r"(?:told|tells?|telling|untold|said|says?|saying)",
    r"what is",
    r"so many",
    r"(?:of|for|from|by|with) (?:no use|good)",
    r"have (?:it|them) (?:do|be)",
)
TERM = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)
FIRST = re.compile(r"(?:What|Who|Whose|Whom|How|Where|When|Which|That|If|So|Tell|Say|Have)\b")
NATIVE = {".pyx", ".pxi", ".pxd"}


class Text(NamedTuple):
    """A comment or a docstring, and where it stands."""

    path: Path
    line: int
    kind: str
    words: str


def texts_of(path: Path) -> Iterator[Text]:
    """Yield the comments and docstrings of one file; neighbouring comment lines are one comment."""
    source = path.read_text(encoding="utf-8")
    if path.suffix in {".c", ".h"}:
        yield from _of_c(path, source)
    else:
        yield from _comments(path, source)
        yield from _docstrings_of_python(path, source) if path.suffix == ".py" else _docstrings_of_cython(path, source)


def _of_c(path: Path, source: str) -> Iterator[Text]:
    for match in re.finditer(r"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+|//[^\n]*", source, re.DOTALL | re.MULTILINE):
        words = re.sub(r"(?m)^\s*(?:/?\*+/?|//+)|\*/", " ", match[0])
        yield Text(path, source.count("\n", 0, match.start()) + 1, "comment", words)


def _comments(path: Path, source: str) -> Iterator[Text]:
    lines = [(number, words) for number, words in _comment_lines(path, source) if not words.startswith(_DIRECTIVES)]
    start, block = 0, ""
    for number, words in [*lines, (-1, "")]:
        if block and number != start + block.count("\n"):
            yield Text(path, start, "comment", block)
            block = ""
        start = start if block else number
        block += words + "\n"


_DIRECTIVES = ("type:", "noqa", "cython:", "pragma:", "pyright:", "ruff:", "fmt:", "----", "====")


def _comment_lines(path: Path, source: str) -> Iterator[tuple[int, str]]:
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string.lstrip("#").strip()
    else:
        for number, line in enumerate(source.splitlines(), 1):
            if match := re.search(r"""(?:^|\s)#(?!.*["'])\s*(.*)$""", line):
                yield number, match[1].strip()


def _docstrings_of_python(path: Path, source: str) -> Iterator[Text]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = ast.get_docstring(node)
            if words:
                yield Text(path, node.body[0].lineno, "docstring", words)


def _docstrings_of_cython(path: Path, source: str) -> Iterator[Text]:
    for match in re.finditer(r'(?:^|:)[^\n"#]*\n?\s*"""(.*?)"""', source, re.DOTALL | re.MULTILINE):
        yield Text(path, source.count("\n", 0, match.start(1)) + 1, "docstring", match[1].strip())


def breaches_in(text: Text) -> Iterator[tuple[str, str]]:
    """Yield the rule that a text breaks, and the words that break it."""
    words = re.sub(r"`[^`]*`", "x", text.words)
    for match in TERM.finditer(words):
        yield "term", match[0].lower()
    if text.kind == "docstring" and (match := FIRST.match(words.lstrip())):
        yield "first word", match[0]
    prose = re.split(r"\n\s*\n|\n\s*(?:[-*|>]|\w+:\s|[A-Z]\w+:$)", words)
    for sentence in (part for paragraph in prose for part in re.split(r"(?<=[.!?:;])\s+", paragraph)):
        length = len(re.findall(r"[A-Za-z0-9][\w'.-]*", sentence))
        if length > LONGEST:
            yield "long sentence", f"{length} words: {' '.join(sentence.split())[:60]}..."


def files_in(folders: list[str]) -> Iterator[Path]:
    """Yield the sources under the folders, Python, Cython and C."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")) or [Path(folder)]:
            if path.suffix in {".py", ".c", ".h", *NATIVE} and "__pycache__" not in path.parts:
                yield path


def main(folders: list[str]) -> int:
    """Print every breach, then a count by rule and 10,000 lines; return 1 where there are more than is allowed."""
    found: Counter[str] = Counter()
    lines = 0
    for path in files_in(folders):
        lines += path.read_text(encoding="utf-8").count("\n")
        for text in texts_of(path):
            for rule, words in breaches_in(text):
                found[rule] += 1
                print(f"{text.path}:{text.line}: {rule}: {words}")
    rates = {rule: count * 10_000 / lines for rule, count in found.items()}
    print(", ".join(f"{rule}: {found[rule]} ({rate:.1f} per 10,000 lines)" for rule, rate in sorted(rates.items())))
    return int(any(rate > ALLOWED for rate in rates.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
