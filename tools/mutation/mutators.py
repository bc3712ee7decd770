"""Small changes of one place each, by token: the kinds of mistakes that a careful reader misses."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mutation.tokens import Token, is_c, statements

_PAIRS = [
    "== !=",
    "and or",
    "&& ||",
    "+ -",
    "* /",
    "+= -=",
    "++ --",
    "True False",
    "true false",
    "min max",
    "fmin fmax",
]
_SWAPPED = {one: (other,) for pair in map(str.split, _PAIRS) for one, other in (pair, pair[::-1])}
_SWAPPED |= {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "continue": ("break",)}
_SPACED = {"<", ">", "+", "-", "*", "/"}  # elsewhere a cast, a sign, a pointer
_ASSIGNED = {"=", "+=", "-=", "*=", "/=", "|=", "&=", "++", "--"}
_KEYWORDS = {"if", "elif", "for", "while", "switch", "return", "else", "case", "goto", "break", "def", "with", "raise"}
_KEYWORDS |= {"await", "yield", "del", "assert", "except", "try", "async", "do", "cdef", "cpdef", "default", "lambda"}
# For sanitizers and leak checks.
_MEMORY = re.compile(r"Py_X?(INC|DEC|NEW|SET)REF|Py_CLEAR|Py_VISIT|PyMem_|PyObject_GC_|rs_lock_|rs_gate_(un)?lock")
_INTEGER = re.compile(r"(\d+)([uUlL]*)")
_DECIMAL = re.compile(r"(\d+)((?:_\d+)*(?:\.\d*)?(?:[eE].*)?)")

Change = tuple[int, int, str]


@dataclass(frozen=True)
class Mutant:
    """One change of one file: `source[start:end]` becomes `text`; `number` counts equal changes of equal lines."""

    path: str
    line: int
    start: int
    end: int
    text: str
    before: str
    after: str
    number: int = 0

    @property
    def id(self) -> str:
        """Stable as long as the line is."""
        key = f"{self.path}\n{self.before}\n{self.after}\n{self.number}"
        return hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()[:8]

    @property
    def place(self) -> str:
        """The file and the line."""
        return f"{self.path}:{self.line}"

    def apply(self, source: str) -> str:
        """Return the source with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def diff(self) -> str:
        """Return the change as two lines below its place."""
        return f"{self.id} {self.place}\n-    {self.before}\n+    {self.after}"


def mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, in its order."""
    made: list[Mutant] = []
    seen: Counter[tuple[str, str]] = Counter()
    for tokens in statements(path, source):
        for start, end, text in _changes(tokens, c=is_c(path)):
            first = source.rfind("\n", 0, start) + 1
            last = (source + "\n").index("\n", end)
            before = source[first:last].strip()
            after = (source[first:start] + text + source[end:last]).strip()
            line = source.count("\n", 0, start) + 1
            made.append(Mutant(path, line, start, end, text, before, after, seen[before, after]))
            seen[before, after] += 1
    return made


def _changes(tokens: list[Token], *, c: bool) -> Iterator[Change]:
    for index, token in enumerate(tokens):
        if token.kind != "string":
            yield from _of_token(tokens, index, token)
    for change in (_drop, _negate, _return):
        yield from change(tokens, c)


def _of_token(tokens: list[Token], index: int, token: Token) -> Iterator[Change]:
    before, after = _near(tokens, index - 1), _near(tokens, index + 1)
    if token.kind == "number":
        if before.text != "[" or not _declares(tokens):  # a longer array holds the same
            yield from _number(token)
    elif token.text == "not" and after.text != "None":  # an argument of Cython that may not be None
        yield token.start, after.start, ""
    elif token.text == "is":
        yield (token.start, after.end, "is") if after.text == "not" else (token.start, token.end, "is not")
    elif token.text == "in" and before.text != "not" and not any(other.text == "for" for other in tokens):
        yield token.start, token.end, "not in"
    elif token.text == "!":
        yield token.start, token.end, ""
    elif token.text in _SWAPPED and _is_operator(token, before, after):
        for text in _SWAPPED[token.text]:
            yield token.start, token.end, text


def _declares(tokens: list[Token]) -> bool:
    """Return True for `type name` and `type *name`, which are no statement of C without being a declaration."""
    return len(tokens) > 1 and tokens[0].kind == "name" and (tokens[1].kind == "name" or tokens[1].text == "*")


def _near(tokens: list[Token], index: int) -> Token:
    return tokens[index] if 0 <= index < len(tokens) else Token("", "", -1, 0, 0, 0)


def _is_operator(token: Token, before: Token, after: Token) -> bool:
    if token.text in {"min", "max", "fmin", "fmax"}:
        return after.text == "("
    if token.text not in _SPACED:
        return True
    joins_text = "string" in {before.kind, after.kind}
    operand = before.kind in {"name", "number"} or before.text in {")", "]"}
    return operand and before.text not in _KEYWORDS and not joins_text and before.end != token.start != after.start - 1


def _number(token: Token) -> Iterator[Change]:
    match = _INTEGER.fullmatch(token.text) or _DECIMAL.fullmatch(token.text)
    if match:
        digits, rest = match.groups()
        more = {"0": "1", "1": "0"}.get(digits, "") if "." not in rest and "e" not in rest.lower() else ""
        yield token.start, token.end, (more or str(int(digits) + 1)) + rest


def _one_line(tokens: list[Token]) -> bool:
    return tokens[0].line == tokens[-1].line


def _drop(tokens: list[Token], c: bool) -> Iterator[Change]:
    """Drop an assignment to something that exists, or a call for its effect."""
    if c:
        tokens = _without_header(tokens)
    if len(tokens) < 3 or not _one_line(tokens) or tokens[0].text in _KEYWORDS or _MEMORY.match(tokens[0].text):
        return
    last = tokens[-2 if c else -1]
    assigned = [index for index, token in enumerate(tokens) if token.depth == 0 and token.text in _ASSIGNED]
    declared = c and _declares(tokens)
    makes_name = assigned and not c and tokens[assigned[0]].text == "=" and assigned[0] == 1
    annotates = not c and any(token.text == ":" and token.depth == 0 for token in tokens)
    if declared or makes_name or annotates or (c and tokens[-1].text != ";"):
        return
    if assigned or (last.text == ")" and tokens[0].kind == "name"):
        yield tokens[0].start, last.end, "" if c else "pass"


def _without_header(tokens: list[Token]) -> list[Token]:
    """Return the statement behind `if (...)`, `else` or `for (...)`."""
    while tokens and tokens[0].text in {"if", "else", "for", "while"}:
        closing = next((i for i, token in enumerate(tokens) if token.depth == 0 and token.text == ")"), 0)
        tokens = tokens[(0 if tokens[0].text == "else" else closing) + 1 :]
    return tokens


def _negate(tokens: list[Token], c: bool) -> Iterator[Change]:
    """Turn a condition round that is no comparison."""
    if c and tokens[0].text == "else":
        tokens = tokens[1:]
    if tokens[0].text not in {"if", "elif"}:
        return
    if c:
        last = next((i for i, token in enumerate(tokens) if token.depth == 0 and token.text == ")"), 0)
        inner = tokens[2:last]
    else:
        inner = tokens[1 : next((i for i, token in enumerate(tokens) if token.depth == 0 and token.text == ":"), 1)]
    if not inner or any(token.text in _SWAPPED or token.text in {"not", "!", "is", "in"} for token in inner):
        return
    yield inner[0].start, inner[0].start, "!" if c else "not "


def _return(tokens: list[Token], c: bool) -> Iterator[Change]:
    """Return nothing."""
    if c:
        tokens = _without_header(tokens)[:-1]
    if len(tokens) < 2 or tokens[0].text != "return" or not _one_line(tokens):
        return
    if tokens[1].text not in {"None", "NULL", "0", "1"}:
        yield tokens[1].start, tokens[-1].end, "0" if c else "None"
