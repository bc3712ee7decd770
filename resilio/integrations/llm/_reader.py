"""What a stream of events has said so far: visible yet, broken, whole; it holds back what nobody needs to see yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilio.integrations.llm._dialects import Dialect, Usage, says_why_it_ends
from resilio.integrations.llm._sse import Event, EventReader, parsed

__all__ = ["Reader"]


class Reader:
    """
    Reads the bytes of one answer, and gives them on when they make a difference.

    Attributes:
        moved: Whether what is held has an event that counts: before the first one the caller sees only those that are
            a part of the answer, then all but pings.

        complete: Whether the answer is whole.

        error: The error that the stream has brought, and whether the SDK raises it; None: none.

        usage: What the answer has cost, as far as it is known.
    """

    __slots__ = ("_begun", "_dialect", "_events", "_held", "_opened", "complete", "error", "moved", "usage")

    def __init__(self, dialect: Dialect, *, events: bool) -> None:
        """
        Have read nothing.

        Args:
            dialect: Of the provider.

            events: Whether it is a stream of events at all; of anything else each chunk counts.
        """
        self._dialect = dialect
        self._events = EventReader() if events else None
        self._held: list[bytes] = []
        self._opened = self._begun = self.moved = self.complete = False
        self.error: tuple[Mapping[str, Any], bool] | None = None
        self.usage: Usage = {}

    @property
    def cut(self) -> bool:
        """Whether the answer is not whole, if this was its end."""
        return self._begun and not self.complete

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        self._held.append(chunk)
        if self._events is None:
            self.moved = True
            return
        for block in self._events.blocks(chunk):
            if self._begun and (self.moved or self._opened) and self._dialect.only_says_more(block):
                self.moved = self.moved or self.error is None
            elif (event := parsed(block)) is not None:
                self._read(event)

    def end(self) -> None:
        """Read the end, which may complete an event."""
        for event in self._events.end() if self._events is not None else ():
            self._read(event)

    def take(self) -> bytes:
        """Return what is held, which is the caller's from now on."""
        taken = b"".join(self._held)
        self._held.clear()
        self._opened, self.moved = self._opened or self.moved, False
        return taken

    def _read(self, event: Event) -> None:
        dialect = self._dialect
        if "usage" in event.text:
            self.usage |= dialect.usage(event.data)
        self._begun = self._begun or dialect.begins(event)
        self.error = self.error or dialect.error_in(event)
        if self.error is None:
            counts = not dialect.is_ping(event) if self._opened else dialect.is_visible(event)
            self.moved = self.moved or counts
            self.complete = self.complete or dialect.ends(event)
            if says_why_it_ends(event):
                self._begun = False  # some servers end here, others send [DONE]
