"""What a latency histogram must say, from the sorted list of all samples."""

from __future__ import annotations

import bisect
import math
from fractions import Fraction

__all__ = ["ExactHistogram"]

LONGEST_NS = 2**44 - 1


class ExactHistogram:
    """Keeps every sample, in whole nanoseconds."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    def record_ns(self, ns: int) -> None:
        """Keep one sample."""
        bisect.insort(self.samples, min(ns, LONGEST_NS))

    def merge(self, other: ExactHistogram) -> None:
        """Keep all of the other's samples too."""
        self.samples = sorted(self.samples + other.samples)

    def quantile_ns(self, q: str) -> int:
        """The smallest sample that at least a share `q` (a decimal) of all samples does not exceed."""
        rank = max(1, math.ceil(Fraction(q) * len(self.samples)))
        return self.samples[rank - 1]

    def at_or_below(self, ns: float) -> int:
        """How many samples are at most `ns`."""
        return bisect.bisect_right(self.samples, ns)
