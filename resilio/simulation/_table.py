"""A table of a scenario file on its way to a record: every mistake in it is told with file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, NoReturn, TypeVar

from resilio._options.validators import parse_duration, show
from resilio.simulation._lines import Path, lines_of, nearest_line

__all__ = ["ScenarioError", "Source", "Table"]

_PART = re.compile(r"\[(\d+)\]|(\w+)")
T = TypeVar("T")


class ScenarioError(ValueError):
    """
    A mistake in a scenario file.

    Attributes:
        file: The file.

        line: The line, from 1; None where the file as a whole is meant.

        key: The key, like "server.workers"; None for the same.
    """

    def __init__(self, file: str, line: int | None, key: str | None, message: str) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {message}" if key is None else f"{where}: {key}: {message}")
        self.file = file
        self.line = line
        self.key = key


class Source:
    """
    The text of a scenario file.

    Args:
        file: Its name, for messages and for what lies beside it.

        text: What is in it; TOML that has been read.
    """

    def __init__(self, file: FilePath, text: str) -> None:
        self.file = file
        self._lines = lines_of(text)

    def refuse(self, path: Path, message: str) -> NoReturn:
        """Raise a `ScenarioError` that names the place."""
        raise ScenarioError(str(self.file), nearest_line(self._lines, path), _dotted(path), message)


def _path_in(message: str) -> Path:
    """Return what a message like "faults[0].at must be ..." begins with, as a path."""
    parts = _PART.findall(message.split(" ", 1)[0])
    return tuple(int(number) if number else name for number, name in parts)


def _dotted(path: Path) -> str | None:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".") or None


class Table:
    """
    One table: what is taken out of it is checked, and what is left at the end is unknown.

    Args:
        source: The file.

        path: Where in it.

        values: What the table holds.
    """

    def __init__(self, source: Source, path: Path, values: Mapping[str, Any]) -> None:
        self.source = source
        self.path = path
        self._left = dict(values)
        self._known: list[str] = []

    @classmethod
    def of(cls, source: Source, path: Path, value: Any) -> Table:
        """Return `value` as a table, which it must be."""
        if not isinstance(value, dict):
            source.refuse(path, f"must be a table, not {show(value)}")
        return cls(source, path, value)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._left))

    def take(self, key: str, default: Any = None) -> Any:
        """Take a value out, or return `default`."""
        self._known.append(key)
        return self._left.pop(key, default)

    def need(self, key: str, what: str) -> Any:
        """Take a value out that must be there; `what` says what it is."""
        if key not in self._left:
            close = difflib.get_close_matches(key, self._left, 1)
            self.refuse(close[0] if close else None, f"{'must be called' if close else 'needs'} {key!r}: {what}")
        return self.take(key)

    def choose(self, key: str, options: Iterable[str], default: str | None = None) -> str:
        """Take a string out that must be one of `options`."""
        known = sorted(options)
        value = self.take(key, default)
        if value is None:
            self.refuse(None, f"needs {key!r}: one of {', '.join(known)}")
        if value not in known:
            self.refuse(key, f"must be one of {', '.join(known)}, not {show(value)}{_hint(value, known)}")
        return str(value)

    def table(self, key: str, value: Any) -> Table:
        """Return a value of this table that must be a table itself."""
        return Table.of(self.source, (*self.path, key), value)

    def tables(self, key: str, value: Any) -> list[Table]:
        """Return a value of this table that must be a table, or a list of them."""
        if isinstance(value, dict):
            return [self.table(key, value)]
        if not isinstance(value, list):
            self.refuse(key, f"must be a table or a list of tables, not {show(value)}")
        return [Table.of(self.source, (*self.path, key, number), each) for number, each in enumerate(value)]

    def time(self, key: str, value: Any) -> Any:
        """Return a time as seconds if it is given as text like "10ms", and anything else as it is."""
        if not isinstance(value, str):
            return value
        return self.checked(lambda: parse_duration(key, value), key)

    def refuse(self, key: str | None, message: str) -> NoReturn:
        """Raise a `ScenarioError` that names a key of this table, or the table."""
        self.source.refuse(self.path if key is None else (*self.path, key), message)

    def checked(self, make: Callable[[], T], *keys: str) -> T:
        """
        Return what `make` returns; a TypeError or ValueError is told with the line of the key that it begins with.

        Args:
            make: Makes something of values of this table.

            keys: Keys that it may be about; the first is named if the message begins with none of them.
        """
        try:
            return make()
        except ScenarioError:
            raise
        except (TypeError, ValueError) as error:
            place = _path_in(str(error))
            if not place or place[0] not in (*keys, *self._known):
                place = keys[:1]
            self.source.refuse((*self.path, *place), str(error))

    def end(self, known: Iterable[str] = ()) -> None:
        """Refuse the first key that nobody has taken."""
        names = sorted({*self._known, *known})
        for key in self._left:
            self.refuse(key, f"is not known here{_hint(key, names)}; there are: {', '.join(names)}")


def _hint(given: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(given), known, 1)
    return f": did you mean {close[0]!r}?" if close else ""
