"""
The tie of a retry budget: its reserve is one rate of the fleet, where each host has had one of its own.

What a success has earned is spent where it was earned, and needs no store: the savings add up to `ratio` of all
successes in any case. The reserve does not: it is a floor for each client, and so grows with their number. Here it is a
rate limit of the fleet (limit.py). Withdrawals do not wait. So where the reserve is too small for leases, a host takes
one token on credit while the store has one, and reports it then: a call that comes once in a minute finds it there.

    In any time t all hosts take at most `burst + hosts + reserve * t` from the reserve, beside what they have earned;
    `burst` is what comes in during a second, at least a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resilio.sharing._fleet.ask import TOKEN, LimitAnswer
from resilio.sharing._fleet.tie import NEVER
from resilio.sharing._fleet.ties.limit import ASKED, LimitTie, Stock

__all__ = ["BudgetTie"]


class BudgetTie(LimitTie):
    """The tie of a retry budget; see the module."""

    KIND = "retry_budget"
    __slots__ = ()

    def _stocks(self, policy: Any) -> list[Stock]:
        return [("retries", 0, *policy._reserve())]

    def _costs(self) -> Sequence[int]:
        return (TOKEN,)

    @property
    def _is_exact(self) -> bool:
        return False

    def due_ns(self, now_ns: int) -> int:
        """Return when it next wants to ask; without a reserve never."""
        return super().due_ns(now_ns) if self._config.reserve else NEVER

    def _after(self, came: Sequence[LimitAnswer], was_enough: bool, now_ns: int) -> int:
        """Return the earliest time of the next question: no call waits for it."""
        after_ns = super()._after(came, was_enough, now_ns)
        return max(after_ns, now_ns + self.own_tick_ns) if self._regime == ASKED else after_ns

    def _credit(self, answer: LimitAnswer) -> int:
        return TOKEN if answer.left >= TOKEN else 0
