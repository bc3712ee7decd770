"""A retry budget in plain Python: what was said, in exact fractions but for the decay."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["BudgetOracle"]

TICKS = 1024


def part(share: Fraction, none: Fraction, every: Fraction) -> Fraction:
    """How far a share is from `none` on the way to `every`, 0 to 1."""
    return min(Fraction(1), max(Fraction(0), (none - share) / (none - every)))


class BudgetOracle:
    """
    Savings, above `initial` decayed in ticks of 1/1024 of the time constant, and a floor that a success arms.

    Calls under way lend. A retry costs what the failed attempt did, more where most of the latest attempts failed.
    While fewer than 44 in 100 of 512 attempts fail, what a call took comes back threefold if it succeeds, the reserve
    has no gap, and calls that were under way in the last second lend too. After three failures of others in a row, and
    one for each call under way, savings do not pay for slow ones.
    """

    def __init__(
        self, now_ns: int, ratio: Fraction, cap: Fraction, initial: Fraction, decay: float | None, reserve: Fraction
    ) -> None:
        self.now_ns = now_ns
        self.configure(ratio, cap, initial, decay, reserve)
        self.deposits = self.withdrawals = self.reserved = self.rejected = self.refunds = self.failures = 0
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
        self.failing, self.memory = Fraction(1, 2), 3
        self.steady, self.steady_memory = Fraction(1, 2), 7
        self.lenders, self.lent_ns = 0, 0
        self.row, self.answered = 0, False

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self.now_ns += ns
        if self.tick_ns is not None:
            ticks = (self.now_ns - self.aged_ns) // self.tick_ns
            self.aged_ns += ticks * self.tick_ns
            fades = self.balance if self.balance < 0 else max(Fraction(0), self.balance - self.initial)
            self.balance -= fades * (1 - Fraction(math.exp(-ticks / TICKS)))

    def deposit(self) -> None:
        """A success."""
        self.balance = min(self.cap, self.balance + self.ratio)
        self.failing -= self.failing / 2**self.memory
        self.steady -= self.steady / 2**self.steady_memory
        self.armed = True
        self.row, self.answered = 0, True
        self.deposits += 1

    def attempt_failed(self, underway: int) -> None:
        """An attempt has failed: the share is of 8 attempts at first, later of 32, or of as many as are under way."""
        seen = self.deposits + self.failures
        self.failures += 1
        self.row += self.answered
        self.memory = self.remembered(min(seen, max(16, underway)), 3)
        self.steady_memory = self.remembered(min(seen, max(256, underway)), 7)
        self.failing += (1 - self.failing) / 2**self.memory
        self.steady += (1 - self.steady) / 2**self.steady_memory

    @staticmethod
    def remembered(attempts: int, first: int) -> int:
        """Bits of the smallest power of two above so many attempts, from the first on to 10."""
        return next(bits for bits in range(first, 11) if bits == 10 or 2**bits > attempts)

    def is_well(self) -> bool:
        """Whether failures are those of chance."""
        return self.steady < Fraction(44, 100)

    def price(self, share: Fraction, asked: Fraction) -> Fraction:
        """What a retry costs after an attempt that cost such a share of a success; `asked`: seconds of Retry-After."""
        if asked:
            return Fraction(1, 4) / max(1, asked)
        serves = part(self.failing, Fraction(9, 10), Fraction(7, 10))
        return max(Fraction(1, 20), 1 - serves * (1 - share))

    def repay(self, taken: Fraction) -> None:
        """A call has succeeded whose retries took so much."""
        self.balance = min(self.cap, self.balance + 3 * taken * self.is_well())

    def withdraw(self) -> bool:
        """Ask for one retry."""
        return self.take(Fraction(1), 0, quick=False, mute=False)

    def is_mute(self, price: Fraction, underway: int) -> bool:
        """Whether nothing answers; the call has failed once."""
        return price >= 1 and self.row > 3 and self.row >= underway

    def take(self, price: Fraction, lenders: int, *, mute: bool, quick: bool = True) -> bool:
        """Ask for what costs so much; if all is well, the most of the calls under way in the last second lend."""
        well = quick and self.is_well() and not mute
        if lenders >= self.lenders or self.now_ns - self.lent_ns > 10**9:
            self.lenders, self.lent_ns = lenders, self.now_ns
        lenders = self.lenders if well else lenders
        if not mute and (self.balance >= price or self.balance - price >= -self.ratio * lenders):
            self.balance -= price
        elif self.gap_ns is not None and self.armed and (well or self.gap_is_over()):
            self.armed = False
            self.reserved += 1
        else:
            self.rejected += 1
            return False
        self.reserve_ns = self.now_ns
        self.withdrawals += 1
        return True

    def gap_is_over(self) -> bool:
        """Whether the last withdrawal no longer keeps the reserve back; there may be none."""
        return self.gap_ns is None or self.reserve_ns is None or self.now_ns >= self.reserve_ns + self.gap_ns

    def refund(self) -> None:
        """The retry was not made."""
        if self.refunds < self.withdrawals:
            self.balance = min(self.cap, self.balance + 1)
            self.refunds += 1
