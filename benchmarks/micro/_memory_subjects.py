"""What `_memory` makes many of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import resilio
from benchmarks.micro._work import ANSWER, QUANTILE_OF, latencies
from resilio._native import clock

__all__ = ["breaker", "histogram", "histogram_of_every_octave", "used_breaker"]

_SECONDS = latencies(QUANTILE_OF)
_CALLS = 1000
_ALIVE: list[Any] = []


def breaker(number: int) -> Callable[[], int]:
    """A named breaker around a function; it has seen no call."""

    def call() -> int:
        return ANSWER

    return resilio.circuit_breaker(f"memory-{number}")(call)


def used_breaker(number: int) -> Callable[[], int]:
    """The same after 1,000 calls that took, in virtual time, what calls of a real service take."""
    now = 0

    def call() -> int:
        clock.set_virtual(now)
        return ANSWER

    guarded = resilio.circuit_breaker(f"memory-{number}")(call)
    for seconds in _SECONDS[:_CALLS]:
        now = clock.now_ns() + int(seconds * 1e9)
        guarded()
    return guarded


def histogram(_number: int) -> resilio.LatencyHistogram:
    """A histogram of 20,000 latencies of a real service's kind."""
    made = resilio.LatencyHistogram()
    for seconds in _SECONDS:
        made.record(seconds)
    return made


def histogram_of_every_octave(_number: int) -> resilio.LatencyHistogram:
    """A histogram that has seen everything from a nanosecond to hours: as large as it gets."""
    made = resilio.LatencyHistogram()
    for exponent in range(45):
        made.record(2.0**exponent * 1e-9)
    return made
