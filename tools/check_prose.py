"""
The prose rule of docs/contributing/style.md, over pages, and over comments, docstrings and messages of the sources.

A sentence has at most 30 words, of pages 18 on average; an agent is a noun; a docstring begins with a noun or an
imperative. A concept has one term, that of the glossary: the words in its last column are not used.
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
MEAN = 18.0  # words of a sentence in pages
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
GLOSSARY = Path(__file__).resolve().parents[1] / "docs" / "reference" / "glossary.md"
OF_OTHERS = {"comparison.md", "vocabulary.md", "migration"}  # pages and folders that name things as other libraries do
NOT_MEANT = re.compile(r"\"[\w-]+\"")
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
    elif path.suffix == ".md":
        yield from _of_page(path, source)
    else:
        yield from _comments(path, source)
        yield from _docstrings_of_python(path, source) if path.suffix == ".py" else _docstrings_of_cython(path, source)
        yield from _messages(path, source) if path.suffix == ".py" else ()


def _of_c(path: Path, source: str) -> Iterator[Text]:
    for match in re.finditer(r"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+|//[^\n]*", source, re.DOTALL | re.MULTILINE):
        words = re.sub(r"(?m)^\s*(?:/?\*+/?|//+)|\*/", " ", match[0])
        yield Text(path, source.count("\n", 0, match.start()) + 1, "comment", words)


def _of_page(path: Path, source: str) -> Iterator[Text]:
    """Yield paragraphs, items and cells of tables; code, generated tables and links' targets are no prose."""
    blank = lambda match: "\n" * match[0].count("\n")  # noqa: E731
    for pattern in _NO_PROSE:
        source = pattern.sub(blank, source)
    source = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", source)
    for match in re.finditer(r"(?:^(?!\s*$)[^\n]*\n)+", source, re.MULTILINE):
        line = source.count("\n", 0, match.start()) + 1
        kind = "cell" if match[0].lstrip().startswith("|") else "page"
        yield from (Text(path, line, kind, words) for words in _parts_of(match[0]))


_NO_PROSE = (
    re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE),
    re.compile(r"^:::.*?^:::[ \t]*$", re.DOTALL | re.MULTILINE),
    re.compile(r"<!-- (?:matrix|untuned)\b.*?<!-- (?:matrix: )?end -->", re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
)


def _parts_of(paragraph: str) -> list[str]:
    """Return the rows of a table cell by cell, a list item by item, another paragraph as it is."""
    if paragraph.lstrip().startswith("|"):
        return [cell for row in paragraph.splitlines() for cell in re.split(r"(?<!\\)\|", row) if cell.strip(" -:")]
    return re.split(r"(?m)^\s*(?:[-*]|\d+\.|#+)\s+", paragraph)


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


def _messages(path: Path, source: str) -> Iterator[Text]:
    """Yield what a program prints: texts of exceptions, warnings, log lines and help."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _name_of(node.func) in _SPEAKERS):
            for text in (one for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)):
                if " " in text.value:
                    yield Text(path, text.lineno, "message", text.value)


_SPEAKERS = {
    "add_argument",
    "ArgumentParser",
    "critical",
    "error",
    "fail",
    "info",
    "print",
    "refuse",
    "warn",
    "warning",
}


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _docstrings_of_cython(path: Path, source: str) -> Iterator[Text]:
    for match in re.finditer(r'(?:^|:)[^\n"#]*\n?\s*"""(.*?)"""', source, re.DOTALL | re.MULTILINE):
        yield Text(path, source.count("\n", 0, match.start(1)) + 1, "docstring", match[1].strip())


def breaches_in(text: Text) -> Iterator[tuple[str, str]]:
    """Yield the rule that a text breaks, and the words that break it."""
    words = re.sub(r"`[^`]*`", "x", text.words)
    for match in TERM.finditer(words):
        yield "term", match[0].lower()
    if not OF_OTHERS.intersection(text.path.parts):
        for match in SYNONYM.finditer(NOT_MEANT.sub("x", words)):
            yield "synonym", f"{match[0].lower()}: the glossary has another term"
    if text.kind == "docstring" and (match := FIRST.match(words.lstrip())):
        yield "first word", match[0]
    for length, sentence in sentences_of(text, r"(?<=[.!?:;])(?:\*\*)?\s+"):
        if length > LONGEST:
            yield "long sentence", f"{length} words: {' '.join(sentence.split())[:60]}..."


def synonyms(page: str) -> re.Pattern[str]:
    """Return a pattern of the words that the glossary replaces: the code in the last column of its table."""
    cells = [row.rstrip().removesuffix("|").rpartition("|")[2] for row in page.splitlines() if row.startswith("| **")]
    words = [_inflected(word) for cell in cells for word in re.findall(r"`([^`]+)`", cell)]
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


def _inflected(word: str) -> str:
    """Return a pattern of a word's forms, as a verb and as a noun."""
    pattern = r"\s+".join(map(re.escape, word.split()))
    if word.endswith("e"):
        return rf"{pattern[:-1]}(?:es?|ed|ing|als?)"
    return rf"{pattern[:-1]}(?:y|ies|ied|ying)" if word.endswith("y") else rf"{pattern}(?:s|ed|ing)?"


SYNONYM = synonyms(GLOSSARY.read_text(encoding="utf-8"))


def sentences_of(text: Text, ends: str = r"(?<=[.!?])(?:\*\*)?\s+") -> Iterator[tuple[int, str]]:
    """Yield each sentence with the number of its words; the rule for long ones counts from a semicolon anew."""
    words = re.sub(r"`[^`]*`", "x", text.words)
    prose = re.split(r"\n\s*\n|\n\s*(?:[-*|>]|\w+:\s|[A-Z]\w+:$)", words)
    for sentence in (part for paragraph in prose for part in re.split(ends, paragraph)):
        if length := len(re.findall(r"[A-Za-z0-9][\w'.-]*", sentence)):
            yield length, sentence


def files_in(folders: list[str]) -> Iterator[Path]:
    """Yield the sources under the folders, Python, Cython and C."""
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")) or [Path(folder)]:
            if path.suffix in {".md", ".py", ".c", ".h", *NATIVE} and not {"__pycache__", "_build"} & set(path.parts):
                yield path


def main(folders: list[str]) -> int:
    """Print every breach, then counts by rule and 10,000 lines; return 1 if there are more than allowed."""
    found: Counter[str] = Counter()
    lines = 0
    lengths: list[int] = []
    for path in files_in(folders):
        lines += path.read_text(encoding="utf-8").count("\n")
        for text in texts_of(path):
            lengths += [length for length, _ in sentences_of(text) if text.kind == "page" and length > 2]
            for rule, words in breaches_in(text):
                found[rule] += 1
                print(f"{text.path}:{text.line}: {rule}: {words}")
    rates = {rule: count * 10_000 / lines for rule, count in found.items()}
    print(", ".join(f"{rule}: {found[rule]} ({rate:.1f} per 10,000 lines)" for rule, rate in sorted(rates.items())))
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    if lengths:
        print(f"a sentence has {mean:.1f} words on average, of {len(lengths)} in pages")
    return int(any(rate > ALLOWED for rate in rates.values()) or mean > MEAN or found["synonym"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
