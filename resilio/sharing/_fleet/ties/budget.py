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

from resilio.sharing._fleet.ask import TOKEN
from resilio.sharing._fleet.ties.limit import LimitTie, Stock

__all__ = ["BudgetTie"]


class BudgetTie(LimitTie):
    """The tie of a retry budget; see the module."""

    KIND = "retry_budget"
    LENDS = True
    __slots__ = ()

    def _stocks(self, policy: Any) -> list[Stock]:
        return [("retries", 0, *policy._reserve())]

    def _read(self, config: Any, peers: int) -> None:
        """Take these options; without a reserve it never asks."""
        super()._read(config, peers)
        self.is_off = not config.reserve

    def _exact(self, config: Any) -> Sequence[bool]:  # noqa: ARG002 - as of a limit
        return (False,)

    def _costs(self, config: Any) -> Sequence[int]:  # noqa: ARG002 - as of a limit
        return (TOKEN,)

    def _is_each(self, config: Any) -> bool:  # noqa: ARG002 - as of a limit
        return False
