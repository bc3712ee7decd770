"""
What a response holds of policies until its body has ended: the permits, and who ends them.

A call over the network returns with the headers; what it cost ends with the body. So its permits are taken out of the
call and put with the body. They are settled once, by the first of: the body's end, an error in it, the client closing
it, the collector finding that nobody will. Settling is synchronous and may happen in any thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from resilio import _log
from resilio._native import clock

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["Held", "tell", "untold"]

LOG_EVERY = 60.0
"""Seconds between two lines in the log about what is abandoned, for each label."""
MOST_LABELS = 1000


class Held:
    """
    The permits of one response: what they end as is said once, by whoever is first; all later calls change nothing.

    Dropped with permits, it has been abandoned.
    """

    __slots__ = ("__weakref__", "_permits", "label")

    def __init__(self, label: str = "a response") -> None:
        """
        Begin without any.

        Args:
            label: What is abandoned, for the log.
        """
        self._permits: list[Permit] = []
        self.label = label

    def __bool__(self) -> bool:
        return bool(self._permits)

    def add(self, permit: Permit) -> None:
        """Take a permit, whose answer has been judged by `permit.answered(...)`."""
        self._permits.append(permit)

    # A list's own atomicity decides: of a reader, a task that closes and a collector, one gets each permit. What was
    # ended by hand is left alone.

    def ended(self) -> None:
        """The body is complete: each gate counts what it has thought of the headers."""
        permits = self._permits
        while permits:
            try:
                permits.pop().complete()
            except (IndexError, RuntimeError):
                continue

    def failed(self, error: BaseException) -> None:
        """The body broke off with `error`: each gate judges it by its own rules, a cancellation is no outcome."""
        permits = self._permits
        while permits:
            try:
                permits.pop().raised(error)
            except (IndexError, RuntimeError):
                continue

    def aborted(self) -> None:
        """The caller wants no more: no outcome, unless the headers already were a failure."""
        permits = self._permits
        while permits:
            try:
                permits.pop().abort()
            except (IndexError, RuntimeError):
                continue

    def abandoned(self) -> None:
        """Nobody closed it: as `aborted`, counted by each gate and logged now and then."""
        permits, found = self._permits, False
        while permits:
            try:
                permits.pop().abandon()
                found = True
            except (IndexError, RuntimeError):
                continue
        if found:
            _note_abandoned(self.label)

    def _next(self) -> Permit | None:
        """Take a permit that nobody else has taken, for those who end it in a way of their own."""
        try:
            return self._permits.pop()
        except IndexError:
            return None

    def __del__(self) -> None:
        if self._permits:
            self.abandoned()


_logged: dict[str, float] = {}
_untold: deque[str] = deque(maxlen=MOST_LABELS)


def _note_abandoned(label: str) -> None:
    """Remember what to log: a finaliser runs in the middle of anything, a handler's own lock included."""
    if label not in _untold:
        _untold.append(label)


def tell() -> None:
    """Log what has been abandoned since the last time, for each label at most one line in `LOG_EVERY` seconds."""
    while _untold:
        label = _untold.popleft()
        now = clock.now_ns() / 1e9
        if 0 <= now - _logged.get(label, -LOG_EVERY) < LOG_EVERY:
            continue
        if len(_logged) >= MOST_LABELS:
            _logged.clear()
        _logged[label] = now
        text = "%s: a response was dropped before its body had ended; its permit came back when it was collected"
        _log.say(_log.WARNING, text, label, fields={"policy": label})


def untold() -> bool:
    """Tell whether `tell` has something to say."""
    return bool(_untold)
