"""
Log lines written by a background thread, so that a handler that blocks delays no call.

On request alone: the last lines of a process, which are those that its operator looks for, may be lost.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from resilio._support.after_fork import around_fork, in_child
from resilio.metrics import _trouble
from resilio.metrics._fork import after_fork

__all__ = ["MOST_WAITING", "Lines"]

MOST_WAITING = 1000
LONGEST_HOLD = 1.0
"""Maximum seconds that a fork waits for a line that is being written."""
Line = Callable[[], object]


class Lines:
    """Queue of lines to write, in order; while it is full, new lines are dropped and counted."""

    def __init__(self) -> None:
        """Start a daemon thread."""
        after_fork(self)
        _all.add(self)
        self.forked()

    def __call__(self, line: Line) -> None:
        """Queue a line; never blocks."""
        if len(self._waiting) >= MOST_WAITING:
            _trouble.count()
            return
        self._waiting.append(line)
        self._more.set()

    def close(self) -> None:
        """Let the thread write the queued lines, and end."""
        self._closed = True
        self._more.set()

    def forked(self) -> None:
        """Start anew: a forked child has no thread, and the queued lines are the parent's."""
        self._closed = False
        self._waiting: deque[Line] = deque()
        self._more = threading.Event()
        self.writing = threading.Lock()
        arguments = (self._more, self.writing)
        thread = threading.Thread(target=self._write, args=arguments, name="resilio-log", daemon=True)
        with suppress(RuntimeError):  # no thread can start: lines are queued until it is full
            thread.start()

    def _write(self, more: threading.Event, writing: threading.Lock) -> None:
        while True:
            more.wait()
            more.clear()
            while self._waiting:
                try:
                    with writing:
                        self._waiting.popleft()()
                except Exception:  # noqa: BLE001 - a handler that raises must not stop the lines that follow
                    _trouble.count()
            if self._closed:
                return


_all: weakref.WeakSet[Lines] = weakref.WeakSet()
_held: dict[int, list[Lines]] = {}


def _hold() -> None:
    """Let no thread write a line during a fork: the child would find the handler's stream locked for ever."""
    _held[threading.get_ident()] = [lines for lines in list(_all) if lines.writing.acquire(timeout=LONGEST_HOLD)]


def _go_on() -> None:
    for lines in _held.pop(threading.get_ident(), ()):
        lines.writing.release()


around_fork(_hold, _go_on)
in_child("state", _held.clear)
