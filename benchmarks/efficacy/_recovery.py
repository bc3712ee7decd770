"""When the calls of a simulation are served again after an outage, and how such times are given."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["SHARE", "WINDOW", "Watch", "seconds"]

WINDOW, SHARE = 2.0, 0.95


@dataclass
class Watch:
    """
    What became of the calls since the outage.

    Args:
        healed: When the outage ended.
    """

    healed: float
    due: list[float] = field(default_factory=list)
    served: list[bool] = field(default_factory=list)
    recovery: float | None = None
    _first: int = 0  # the window: calls from the first to before the last, of which so many are good
    _last: int = 0
    _good: int = 0

    def begin(self, due: float) -> int:
        """Write down a call, and return its number; -1 is that of a call before the end of the outage."""
        if due < self.healed:
            return -1
        self.due.append(due)
        self.served.append(False)
        return len(self.due) - 1

    def look(self, settled: float) -> None:
        """Look for the recovery among calls that were due before a time; they must have ended."""
        due, served = self.due, self.served
        while self.recovery is None and self._first < len(due) and due[self._first] + WINDOW <= settled:
            begin = due[self._first]
            while self._last < len(due) and due[self._last] < begin + WINDOW:
                self._good += served[self._last]
                self._last += 1
            if self._good >= SHARE * (self._last - self._first):
                self.recovery = begin - self.healed
            self._good -= served[self._first]
            self._first += 1


def seconds(values: Sequence[float]) -> str:
    """Return the median, the 95th percentile (nearest rank) and the worst of recoveries."""
    ordered = sorted(values)
    figures = statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1], ordered[-1]
    return " / ".join("never" if math.isinf(value) else f"{value:.1f}" for value in figures)
