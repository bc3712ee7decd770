"""What the callers of a rate limit want of its fleet."""

from __future__ import annotations

import math

from resilio.sharing._fleet.ask import TOKEN

__all__ = ["SECOND", "Wants"]

SECOND = 1_000_000_000
SHORTEST_NS = 50_000_000
"""The shortest tick, for a small burst."""
TICKS_A_BURST = 4
"""The ticks in which the whole burst comes in, at least."""
FADES = 1.25
"""The ticks in which a demand that has ended is forgotten: leases of hosts whose turn is over are of use to others."""


class Wants:
    """
    What callers want of one rate, in millionths of a token.

    Attributes:
        amount: What comes in each period.

        period_us: That period.

        burst: The most that all askers have together.

        cost: Of a call.

        demand: What callers want a second.

        rate: What comes in each second.

        fill_ns: The time in which the whole burst comes in.

        base: What was in the purse after the latest question or answer.

        offered: What was offered with the question under way, a debt from the time without a store apart.
    """

    __slots__ = ("amount", "base", "burst", "cost", "demand", "fill_ns", "offered", "period_us", "rate")

    def __init__(self, amount: float, period_ns: int, burst: float, cost: float) -> None:
        """Describe a rate by its tokens in each period."""
        scale = max(1, math.ceil(1000 / period_ns))  # a period of less than a microsecond
        self.period_us: int = max(1, round(period_ns * scale / 1000))
        self.amount: int = max(1, round(amount * TOKEN * scale))
        self.burst: int = round(burst * TOKEN)
        self.cost: int = max(1, round(cost * TOKEN))
        self.rate: float = self.amount / self.period_us * 1e6
        self.fill_ns: int = math.ceil(self.burst / self.rate * SECOND)
        self.demand = 0.0
        self.base = 0
        self.offered = 0

    def tick_ns(self, most_ns: int) -> int:
        """Return the time between questions: a quarter of that in which the burst comes in, within limits."""
        return min(most_ns, max(SHORTEST_NS, self.fill_ns // TICKS_A_BURST))

    def see(self, wanted: int, elapsed_ns: int, tick_ns: int) -> None:
        """Learn from what callers have wanted in this time: more counts at once, less bit by bit."""
        now = wanted / max(elapsed_ns, tick_ns // 4) * SECOND
        if now > self.demand:
            self.demand = now
        else:
            self.demand += (now - self.demand) * min(1.0, elapsed_ns / (FADES * tick_ns))

    def in_time(self, time_ns: float) -> float:
        """Return what callers want in this time."""
        return self.demand * time_ns / SECOND

    @property
    def is_idle(self) -> bool:
        """True if callers want less than a hundredth of a call in a second."""
        return self.demand < self.cost / 100
