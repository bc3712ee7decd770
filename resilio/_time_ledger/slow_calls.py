"""
Log of slow calls: one line each with the call's ledger, up to a number of lines a minute.

The core compares the time of each call that ends with the lowest threshold, and calls `report_slow_call` for those
above it. Without a threshold no call gets here.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._native import clock, core
from resilio._support.after_fork import free_lock

if TYPE_CHECKING:
    from resilio._native.core import Gate, Segments

__all__ = ["SlowCalls", "report_slow_call"]

_MINUTE_NS = 60_000_000_000
_lock = Lock()
free_lock(sys.modules[__name__], "_lock")
_all: tuple[SlowCalls, ...] = ()


class SlowCalls:
    """A subscription to slow calls: calls of one policy, or of all, above a threshold."""

    __slots__ = ("_above", "_level", "_lock", "_minute_ns", "_per_minute", "_policy", "_said", "_unsaid")

    def __init__(self, above: float, policy: core.Pipeline | None, per_minute: int, level: int) -> None:
        """
        Begin at once.

        Args:
            above: Threshold in seconds.
            policy: The policy whose calls are logged; None: all.
            per_minute: Most lines a minute.
            level: The level of the lines.
        """
        self._above = above
        self._policy = policy
        self._per_minute = per_minute
        self._level = level
        self._lock = Lock()
        self._minute_ns = clock.now_ns()
        self._said = self._unsaid = 0
        _replace((*_all, self))

    def stop(self) -> None:
        """Log no more."""
        _replace(tuple(one for one in _all if one is not self))

    def hear(self, gate: Gate, segments: Segments, error: BaseException | None) -> None:
        """Log the call if it is covered and slow, and the minute has a line left."""
        if segments.total < self._above or not self._concerns(gate):
            return
        unsaid = self._turn()
        if unsaid is None:
            return
        ended = "returned" if error is None else f"raised {type(error).__name__}"
        more = f"; {unsaid} more were not logged" if unsaid else ""
        kind, name = gate.kind, gate.name
        fields = {"policy": kind, "policy_name": name, "segments": segments.asdict(), "total": segments.total}
        log.say(self._level, "%s: a slow call %s: %s%s", log.describe(kind, name), ended, segments, more, fields=fields)

    def _concerns(self, gate: Gate) -> bool:
        if self._policy is None or gate.policy is self._policy:
            return True
        stage: Any = self._policy.gates[0]
        return gate.entry is not None and gate.entry.table is getattr(stage, "table", None)

    def _turn(self) -> int | None:
        """Return the number of calls left out since the last line; None: this one is left out too."""
        now_ns = clock.now_ns()
        with self._lock:
            if now_ns - self._minute_ns >= _MINUTE_NS or now_ns < self._minute_ns:
                self._minute_ns, self._said = now_ns, 0
            if self._said >= self._per_minute:
                self._unsaid += 1
                return None
            self._said += 1
            unsaid, self._unsaid = self._unsaid, 0
            return unsaid


def _replace(those: tuple[SlowCalls, ...]) -> None:
    global _all
    with _lock:
        _all = those
        core.slow_calls_above(min((one._above for one in those), default=None))


def report_slow_call(gate: Gate, segments: Segments, error: BaseException | None) -> None:
    """
    Pass a slow call to all subscriptions; the core calls this after the call is settled, outside of all locks.

    Args:
        gate: The call's outermost gate.
        segments: The call's time by segment.
        error: The exception that it raised; None: it returned.
    """
    for one in _all:
        one.hear(gate, segments, error)
