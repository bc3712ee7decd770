"""
Detection of a load shedder that cannot reject: the server has fewer threads than the shedder has room for calls.

Requests beyond the threads wait in the server, where no policy sees them. WSGI does not pass the number of threads on.
But where each thread that has brought a request is busy, look after look, and no further thread appears, there is none.
"""

from __future__ import annotations

import itertools
import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio.integrations._shared.guarded_call import gates_of

if TYPE_CHECKING:
    from resilio._policy.base import Policy

__all__ = ["BusyThreads", "watched"]

_EVERY = 64  # requests between two looks
_LOOKS = 16  # in a row, until the warning


class BusyThreads:
    """
    The threads that bring requests to one load shedder.

    Args:
        gate: The shedder's gate.
    """

    __slots__ = ("_busy", "_gate", "_rejected", "_requests", "_threads")

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self._threads: set[int] = set()  # that were seen at a look
        self._requests = itertools.count(1)
        self._busy = 0  # looks in a row at which every thread was busy, and nothing had been rejected
        self._rejected = -1

    def note(self) -> bool:
        """Note a request of this thread that is about to be admitted; return True once the warning is logged."""
        return next(self._requests) % _EVERY == 0 and self._look()

    def _look(self) -> bool:
        self._threads.add(get_ident())
        counters, threads = self._gate.counters(), len(self._threads)
        is_busy = counters["inflight"] + counters["queued"] + 1 == threads > 1
        quiet, self._rejected = counters["rejected"] == self._rejected, counters["rejected"]
        self._busy = self._busy + 1 if is_busy and quiet and threads <= self._room else 0
        if self._busy == _LOOKS:
            self._warn(threads)
        return self._busy >= _LOOKS

    @property
    def _room(self) -> int:
        return int(self._gate.limit + self._gate.room)

    def _warn(self, threads: int) -> None:
        name, limit = self._gate.name or "unnamed", self._gate.limit
        text = (
            "load_shed %r rejects nothing though all %d threads of the server are busy: it has room for %d calls, %d "
            "of them waiting. Further requests wait in the server, where no policy sees them. Give the server more "
            "threads than that, or set max_concurrent well below its threads"
        )
        log.say(logging.WARNING, text, name, threads, self._room, self._room - limit)


def watched(policy: Policy[Any]) -> BusyThreads | None:
    """Return the threads of a policy's load shedder; None if it has none."""
    gates = gates_of(policy, "load_shed")
    return BusyThreads(gates[0]) if gates else None
