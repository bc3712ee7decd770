"""Line numbers of the keys in a TOML file, for error messages: tomllib does not return them."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Path", "lines_of", "nearest_line"]

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"|\'([^\'\n]*)\'')
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|' + _QUOTED.pattern, re.DOTALL)
_OTHER = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str) -> dict[Path, int]:
    """
    Return the line, from 1, of each table, key and element of an array.

    Args:
        text: TOML that tomllib has parsed without an error.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def nearest_line(lines: dict[Path, int], path: Path) -> int:
    """Return the line of `path`, or of its innermost known parent; 1 if none is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._arrays: dict[Path, int] = {}

    def document(self) -> None:
        """Scan the whole text."""
        table: Path = ()
        while self._skip():
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._array_table(tuple(self._key()))
                self._at += 2
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._inside(tuple(self._key()))
                self._note(table)
                self._at += 1
            else:
                self._pair(table)

    def _inside(self, keys: Path) -> Path:
        """Return the path of a header, which leads into the last element of each array of tables on its way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _array_table(self, keys: Path) -> Path:
        array = (*self._inside(keys[:-1]), keys[-1])
        self._arrays[array] = self._arrays.get(array, -1) + 1
        self._note(array)
        table = (*array, self._arrays[array])
        self._note(table)
        return table

    def _note(self, path: Path) -> None:
        self.lines.setdefault(path, self._text.count("\n", 0, self._at) + 1)

    def _skip(self) -> bool:
        """Skip blanks, comments and newlines; return False at the end of the text."""
        match = _BLANK.match(self._text, self._at)
        self._at = self._at if match is None else match.end()
        return self._at < len(self._text)

    def _key(self) -> Iterator[str]:
        while True:
            self._skip()
            match = _BARE.match(self._text, self._at) or _QUOTED.match(self._text, self._at)
            if match is None:  # not TOML
                return
            self._at = match.end()
            quoted = match.groups()
            yield match[0] if not quoted else quoted[0] if quoted[0] is not None else quoted[1]
            self._skip()
            if not self._text.startswith(".", self._at):
                return
            self._at += 1

    def _pair(self, table: Path) -> None:
        begin = self._at
        path = table
        for key in self._key():
            path = (*path, key)
            self.lines.setdefault(path, self._text.count("\n", 0, begin) + 1)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        opening = self._text[self._at]
        if opening == "[":
            self._elements(path)
        elif opening == "{":
            self._inline(path)
        else:
            match = _STRING.match(self._text, self._at) or _OTHER.match(self._text, self._at)
            self._at = self._at + 1 if match is None else match.end()

    def _elements(self, path: Path) -> None:
        self._at += 1
        number = 0
        while self._skip() and self._text[self._at] != "]":
            self._note((*path, number))
            self._value((*path, number))
            number += 1
            self._comma()
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._skip() and self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip()
        if self._text.startswith(",", self._at):
            self._at += 1
