"""A retry budget in plain Python: what was said, in exact fractions but for the decay."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["BudgetOracle"]

TICKS = 1024


class BudgetOracle:
    """Savings, above `initial` decayed in ticks of 1/1024 of the time constant, and a floor that a success arms."""

    def __init__(
        self, now_ns: int, ratio: Fraction, cap: Fraction, initial: Fraction, decay: float | None, reserve: Fraction
    ) -> None:
        self.now_ns = now_ns
        self.configure(ratio, cap, initial, decay, reserve)
        self.deposits = self.withdrawals = self.reserved = self.refused = self.refunds = 0
        self.reset()

    def configure(
        self, ratio: Fraction, cap: Fraction, initial: Fraction, decay: float | None, reserve: Fraction
    ) -> None:
        """Change the options and keep the balance, up to the new cap; the ticks begin anew."""
        self.ratio, self.cap, self.initial = ratio, cap, initial
        self.tick_ns = None if decay is None else max(1, round(decay * 10**9) // TICKS)
        self.gap_ns = None if reserve == 0 else int(10**9 / reserve)
        self.balance = min(getattr(self, "balance", Fraction(0)), cap)
        self.aged_ns = self.now_ns

    def reset(self) -> None:
        """Begin again."""
        self.balance = self.initial
        self.aged_ns = self.now_ns
        self.reserve_ns: int | None = None
        self.armed = False

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self.now_ns += ns
        if self.tick_ns is not None:
            ticks = (self.now_ns - self.aged_ns) // self.tick_ns
            self.aged_ns += ticks * self.tick_ns
            above = max(Fraction(0), self.balance - self.initial)
            self.balance -= above * (1 - Fraction(math.exp(-ticks / TICKS)))

    def deposit(self) -> None:
        """A success."""
        self.balance = min(self.cap, self.balance + self.ratio)
        self.armed = True
        self.deposits += 1

    def withdraw(self) -> bool:
        """Ask for one retry."""
        if self.balance >= 1:
            self.balance -= 1
        elif self._reserve_is_ready():
            self.armed = False
            self.reserved += 1
        else:
            self.refused += 1
            return False
        self.reserve_ns = self.now_ns
        self.withdrawals += 1
        return True

    def _reserve_is_ready(self) -> bool:
        return self.gap_ns is not None and self.armed and self.gap_is_over()

    def gap_is_over(self) -> bool:
        """Whether the last withdrawal no longer keeps the reserve back; there may be none."""
        return self.gap_ns is None or self.reserve_ns is None or self.now_ns >= self.reserve_ns + self.gap_ns

    def refund(self) -> None:
        """The retry was not made."""
        if self.refunds < self.withdrawals:
            self.balance = min(self.cap, self.balance + 1)
            self.refunds += 1
