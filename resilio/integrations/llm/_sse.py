"""Server-sent events out of bytes, however those were cut; nothing is taken away from them."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

__all__ = ["Event", "EventReader", "parsed"]

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE = re.compile(rb"\r\n|\n|\r")


@attrs.frozen
class Event:
    """
    One event.

    Attributes:
        name: Its `event` field, "" if it has none.

        text: Its `data`, the lines joined.

        data: The JSON object in it; {} if it is none.
    """

    name: str
    text: str
    data: dict[str, Any]


def parsed(block: bytes) -> Event | None:
    """
    Return the event in a block of lines; None for one without data, a comment say.

    Args:
        block: As `EventReader.blocks` has it.
    """
    name, lines = "", []
    for line in _LINE.split(block) if b"\r" in block else block.split(b"\n"):
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            lines.append(text)
        elif field == b"event":
            name = text
    if not lines and not name:
        return None
    text = "\n".join(lines)
    return Event(name, text, _object(text))


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text) if text.startswith("{") else None
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {}


class EventReader:
    """
    Reads events as their last byte arrives.

    Source: WHATWG HTML, section 9.2.6 (server-sent events).
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        """Have read nothing."""
        self._rest = b""

    def blocks(self, chunk: bytes) -> list[bytes]:
        """Return the lines of each event that `chunk` completes, not parsed."""
        *blocks, self._rest = _BLANK_LINE.split(self._rest + chunk)
        return blocks

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes."""
        return [event for event in map(parsed, self.blocks(chunk)) if event is not None]

    def end(self) -> list[Event]:
        """Return the event that the end of the stream completes, which many servers leave without its blank line."""
        return self.feed(b"\n\n") if self._rest.strip() else []
