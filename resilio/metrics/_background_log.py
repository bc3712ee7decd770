"""Log lines written by a thread of their own, so that a handler that blocks delays no call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from resilio.metrics import _trouble
from resilio.metrics._fork import after_fork

__all__ = ["MOST_WAITING", "Lines"]

MOST_WAITING = 1000
Line = Callable[[], object]


class Lines:
    """Lines that wait to be written, in order; where there are too many the new ones are dropped, and counted."""

    def __init__(self) -> None:
        """Start a thread; it is no reason for the process to go on."""
        after_fork(self)
        self.forked()

    def __call__(self, line: Line) -> None:
        """Take a line; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            _trouble.count()
            return
        self._waiting.append(line)
        self._more.set()

    def close(self) -> None:
        """Let the thread write what waits, and end."""
        self._closed = True
        self._more.set()

    def forked(self) -> None:
        """Begin anew: in a child of a fork there is no thread, and what waited is the parent's."""
        self._closed = False
        self._waiting: deque[Line] = deque()
        self._more = threading.Event()
        thread = threading.Thread(target=self._write, args=(self._more,), name="resilio-log", daemon=True)
        with suppress(RuntimeError):  # no threads left: lines wait, and are dropped in the end
            thread.start()

    def _write(self, more: threading.Event) -> None:
        while True:
            more.wait()
            more.clear()
            while self._waiting:
                try:
                    self._waiting.popleft()()
                except Exception:  # noqa: BLE001 - a handler that raises must not end the lines of the others
                    _trouble.count()
            if self._closed:
                return
