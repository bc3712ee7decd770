"""A token bucket as the textbook has it: a level that rises with time, in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["ExactBucket"]


class ExactBucket:
    """A level between minus infinity and `burst`, at a time that never goes backwards."""

    def __init__(self, rate: float, burst: int, now_ns: int, initial: int | None = None) -> None:
        self.per_ns = Fraction(rate) / 10**9
        self.burst = burst
        self.level = Fraction(burst if initial is None else initial)
        self.now_ns = now_ns

    def advance(self, now_ns: int) -> None:
        """Let time pass; a time before the latest one is that one."""
        passed = max(0, now_ns - self.now_ns)
        self.now_ns += passed
        self.level = min(Fraction(self.burst), self.level + passed * self.per_ns)

    def missing_ns(self, n: int) -> int:
        """Whole nanoseconds until `n` tokens are there; 0 if they are."""
        return max(0, math.ceil((n - self.level) / self.per_ns))

    def try_acquire(self, n: int) -> bool:
        """Take `n` tokens if they are there."""
        if self.level < n:
            return False
        self.level -= n
        return True

    def debit(self, n: int) -> None:
        """Take `n` tokens in any case."""
        self.level -= n

    def refund(self, n: int) -> None:
        """Put `n` tokens back, up to `burst`."""
        self.level = min(Fraction(self.burst), self.level + n)

    def available(self) -> int:
        """Whole tokens, rounded down also below zero."""
        return math.floor(self.level)

    def reconfigure(self, rate: float, burst: int) -> None:
        """Keep the tokens, up to the new `burst`."""
        self.per_ns = Fraction(rate) / 10**9
        self.burst = burst
        self.level = min(Fraction(burst), self.level)
