"""Tables of a scenario file, checked while they become records; errors name file, line and key."""

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

        line: The line, from 1; None for the file as a whole.

        key: The key, like "server.workers"; None for the file as a whole.
    """

    def __init__(self, file: str, line: int | None, key: str | None, message: str) -> None:
        super().__init__(file, line, key, message)  # all of them: a pickle makes the error anew from its `args`
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        message = self.args[-1]
        return f"{where}: {message}" if self.key is None else f"{where}: {self.key}: {message}"


class Source:
    """
    The text of a scenario file.

    Args:
        file: Path of the file, for messages and for files beside it.

        text: Its contents, TOML that has been parsed.
    """

    def __init__(self, file: FilePath, text: str) -> None:
        self.file = file
        self._lines = lines_of(text)

    def reject(self, path: Path, message: str) -> NoReturn:
        """Raise a `ScenarioError` with file, line and key."""
        raise ScenarioError(str(self.file), nearest_line(self._lines, path), _dotted(path), message)


def _path_in(message: str) -> Path:
    """Return the path at the start of a message like "faults[0].at must be ..."."""
    parts = _PART.findall(message.split(" ", 1)[0])
    return tuple(int(number) if number else name for number, name in parts)


def _dotted(path: Path) -> str | None:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".") or None


class Table:
    """
    One table: values are checked as they are taken out, and keys left at the end are unknown.

    Args:
        source: The file.

        path: Path of the table in the file.

        values: Contents of the table.
    """

    def __init__(self, source: Source, path: Path, values: Mapping[str, Any]) -> None:
        self.source = source
        self.path = path
        self._left = dict(values)
        self._known: list[str] = []

    @classmethod
    def of(cls, source: Source, path: Path, value: Any) -> Table:
        """Return `value` as a table, or raise `ScenarioError`."""
        if not isinstance(value, dict):
            source.reject(path, f"must be a table, not {show(value)}")
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
        """Take a required value out; `what` describes it in the error message."""
        if key not in self._left:
            close = difflib.get_close_matches(key, self._left, 1)
            self.reject(close[0] if close else None, f"{'must be called' if close else 'needs'} {key!r}: {what}")
        return self.take(key)

    def choose(self, key: str, options: Iterable[str], default: str | None = None) -> str:
        """Take a string out that must be one of `options`."""
        known = sorted(options)
        value = self.take(key, default)
        if value is None:
            self.reject(None, f"needs {key!r}: one of {', '.join(known)}")
        if value not in known:
            self.reject(key, f"must be one of {', '.join(known)}, not {show(value)}{_hint(value, known)}")
        return str(value)

    def table(self, key: str, value: Any) -> Table:
        """Return a value of this table that must be a table itself."""
        return Table.of(self.source, (*self.path, key), value)

    def tables(self, key: str, value: Any) -> list[Table]:
        """Return a value of this table that must be a table, or a list of them."""
        if isinstance(value, dict):
            return [self.table(key, value)]
        if not isinstance(value, list):
            self.reject(key, f"must be a table or a list of tables, not {show(value)}")
        return [Table.of(self.source, (*self.path, key, number), each) for number, each in enumerate(value)]

    def time(self, key: str, value: Any) -> Any:
        """Return seconds for a text like "10ms", and any other value unchanged."""
        if not isinstance(value, str):
            return value
        return self.checked(lambda: parse_duration(key, value), key)

    def reject(self, key: str | None, message: str) -> NoReturn:
        """Raise a `ScenarioError` that names a key of this table, or the table."""
        self.source.reject(self.path if key is None else (*self.path, key), message)

    def checked(self, make: Callable[[], T], *keys: str) -> T:
        """
        Call `make`; a TypeError or ValueError becomes a `ScenarioError` at the key that its message begins with.

        Args:
            make: Builds an object from values of this table.

            keys: Keys that the message may begin with; the first is named if it begins with none of them.
        """
        try:
            return make()
        except ScenarioError:
            raise
        except (TypeError, ValueError) as error:
            place = _path_in(str(error))
            if not place or place[0] not in (*keys, *self._known):
                place = keys[:1]
            self.source.reject((*self.path, *place), str(error))

    def end(self, known: Iterable[str] = ()) -> None:
        """Raise a `ScenarioError` for the first key that was not taken out."""
        names = sorted({*self._known, *known})
        for key in self._left:
            self.reject(key, f"is not known here{_hint(key, names)}; there are: {', '.join(names)}")


def _hint(given: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(given), known, 1)
    return f": did you mean {close[0]!r}?" if close else ""
