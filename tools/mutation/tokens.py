"""Tokens of Python, Cython and C: code without comments, directives and declarations; a string is one token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LONG, _SHORT = r"{q}{q}{q}(?:\\.|[^\\])*?{q}{q}{q}", r"{q}(?:\\.|[^{q}\\\n])*{q}"
_STRING = "[rbfuRBFUL]{0,2}(?:" + "|".join(form.replace("{q}", q) for form in (_LONG, _SHORT) for q in "\"'") + ")"
_REST = r"""
    | (?P<string>{string})
    | (?P<number>\d(?:[eE][+-]\d|[\w.])*)
    | (?P<name>\w+)
    | (?P<operator>->|:=|\*\*=?|{floor}<<=?|>>=?|[-+*/%&|^=!<>]=|\+\+|--|&&|\|\||\S)
"""
_PYTHON = re.compile(r"(?P<comment>\#[^\n]*)" + _REST.format(string=_STRING, floor="//=?|"), re.VERBOSE | re.DOTALL)
_C = re.compile(
    r"(?P<comment>/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:\\\n|[^\n])*)" + _REST.format(string=_STRING, floor=""),
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_DECLARATIONS = ("import", "from", "cimport", "include", "global", "nonlocal", "class", "ctypedef", "@", "pass")
_TYPES = {"extern", "enum", "struct", "union", "packed"}
_NOT_COUNTED = re.compile("GCOV_EXCL_(START|STOP|LINE)|pragma: no cover")


@dataclass(frozen=True)
class Token:
    """
    A piece of code.

    Attributes:
        kind: `string`, `number`, `name` or `operator`.

        depth: Brackets around it; a bracket itself stands outside of its pair.
    """

    kind: str
    text: str
    start: int
    line: int
    column: int
    depth: int

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.start + len(self.text)


def is_c(path: str) -> bool:
    """Return True for C; the other files are Python or Cython."""
    return path.endswith((".c", ".h"))


def statements(path: str, source: str) -> list[list[Token]]:
    """Return the executed code, by logical line of Python and Cython, by statement, header or brace of C."""
    found = _c_statements(source) if is_c(path) else _python_statements(source)
    skipped = _not_counted(source)
    return [tokens for tokens in found if tokens[0].line not in skipped]


def _tokens(source: str, pattern: re.Pattern[str], brackets: str) -> Iterator[Token]:
    line, seen, depth = 1, 0, 0
    for match in pattern.finditer(source):
        line += source.count("\n", seen, match.start())
        seen, kind, text = match.start(), match.lastgroup or "", match.group()
        if kind == "comment":
            continue
        depth -= kind == "operator" and text in brackets[1::2]
        yield Token(kind, text, seen, line, seen - source.rfind("\n", 0, seen) - 1, depth)
        depth += kind == "operator" and text in brackets[::2]


def _not_counted(source: str) -> set[int]:
    """Return the lines that coverage does not count either."""
    lines, inside = set(), False
    for number, line in enumerate(source.split("\n"), 1):
        mark = _NOT_COUNTED.search(line)
        inside = (inside or bool(mark and mark[1] == "START")) and not (mark and mark[1] == "STOP")
        if inside or mark:
            lines.add(number)
    return lines


def _c_statements(source: str) -> Iterator[list[Token]]:
    """Yield what is inside of functions: the rest of C is declarations."""
    current: list[Token] = []
    braces = 0
    for token in _tokens(source, _C, "()[]"):
        if token.text == "{" and token.kind == "operator" and (braces or (current and current[-1].text == ")")):
            braces += 1
        current.append(token)
        if token.kind == "operator" and token.depth == 0 and token.text in "{};":
            if braces and len(current) > 1 and not (braces == 1 and token.text == "{"):
                yield current
            braces -= token.text == "}" and braces > 0
            current = []


def _python_statements(source: str) -> Iterator[list[Token]]:
    """Yield logical lines that are executed: no import, no declaration of a C type, nothing for type checkers alone."""
    skipping = -1  # the column of the block that is left out
    for tokens in _logical_lines(source):
        first = tokens[0]
        if skipping >= 0 and first.column > skipping:
            continue
        declares = first.text in {"cdef", "cpdef"} and _TYPES & {token.text for token in tokens[1:3]}
        checked = any(token.text in {"TYPE_CHECKING", "version_info"} for token in tokens)
        skipping = first.column if checked or declares or _is_type(tokens) else -1
        if skipping < 0 and first.text not in _DECLARATIONS and not _is_bare(tokens):
            yield tokens


def _is_type(tokens: list[Token]) -> bool:
    """Return True for `ctypedef struct` and protocols, whose block holds declarations."""
    texts = {token.text for token in tokens}
    return tokens[0].text == "ctypedef" or (tokens[0].text == "class" and "Protocol" in texts)


def _is_bare(tokens: list[Token]) -> bool:
    """Return True for a C variable or function header without a value."""
    return tokens[0].text in {"cdef", "cpdef"} and not any(token.text == "=" for token in tokens)


def _logical_lines(source: str) -> Iterator[list[Token]]:
    current: list[Token] = []
    for token in _tokens(source, _PYTHON, "()[]{}"):
        closes = token.kind == "operator" and token.text in ")]}"
        if current and token.line != current[-1].line and token.depth == 0 and not closes:
            yield current
            current = []
        current.append(token)
    if current:
        yield current
