"""The time of day, for what follows the calendar; in virtual time the one that a test or a simulation began with."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from resilio._native import clock

__all__ = ["ORIGIN", "ORIGIN_NS", "begin_virtual", "wall_ns"]

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
"""When virtual time begins."""
ORIGIN_NS = int(ORIGIN.timestamp()) * 1_000_000_000
_base_ns = 0


def begin_virtual(base_ns: int) -> None:
    """Let the origin be this time of the virtual clock."""
    global _base_ns
    _base_ns = base_ns


def wall_ns() -> int:
    """Return the nanoseconds since 1970."""
    if clock.source() == "virtual":
        return ORIGIN_NS + clock.now_ns() - _base_ns
    return time.time_ns()  # wall clock: days are those of the calendar
