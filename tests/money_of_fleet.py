"""Spend limits of a fleet on the virtual clock: hosts with one store, and an oracle that counts all their money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from limits_of_fleet import Wire

from resilio._policies.spend_limit.config import SpendLimitConfig
from resilio._policies.spend_limit.policy import SpendLimit
from resilio.cost import charge
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime

__all__ = ["CENT", "Host", "hosts", "pass_time", "spent_by", "step"]

CENT = 10_000_000
"""In billionths."""
GRID = 0.01
"""Seconds between two looks at who is due."""


class Host:
    """A process with a fleet and a limit of its own; `spent` is what its calls have cost, in cents."""

    def __init__(self, store: MemoryEngine, number: int, limit: str, options: dict[str, Any]) -> None:
        fleet_options = {key: options.pop(key) for key in ("peers", "tick") if key in options}
        self.wire = Wire(store, number)
        self.fleet = Fleet("shop", self.wire, is_stepped=True, **fleet_options)
        self.fleet.courier._random.seed(number)
        record = {"reserve": lambda cents: cents / 100, **options}
        self.limit = SpendLimit(SpendLimitConfig(limit=limit, scope=self.fleet, **record), "money")
        self.spent = 0

    @property
    def lease(self) -> Any:
        """What its calls spend of."""
        return self.limit._gate.book.lease

    @property
    def held(self) -> float:
        """The money on lease here and not spent, in cents."""
        return attrs.evolve(self.lease.report(self.limit._gate.book.base())).held / CENT

    def calls(self, n: int, cents: int = 1) -> int:
        """Make calls that cost this each; return how many were admitted."""
        admitted = 0
        for _ in range(n):
            permit = self.limit.try_acquire(cents)
            if permit:
                admitted += 1
                permit.success()
        self.spent += admitted * cents
        return admitted

    def costs(self, cents: int, charged: int) -> None:
        """Make a call that reserves one amount and costs another."""
        self.limit.call(lambda _: charge(charged / 100), cents)
        self.spent += charged


def hosts(n: int, limit: str, *, store: MemoryEngine | None = None, **options: Any) -> list[Host]:
    """Return this number of hosts that share a limit, in virtual time."""
    kept = MemoryEngine() if store is None else store
    return [Host(kept, i, limit, dict(options)) for i in range(n)]


def step(fleet: Sequence[Host]) -> None:
    """Let the courier of each host make a trip if one is due."""
    for one in fleet:
        one.fleet.step()


def pass_time(vt: VirtualTime, fleet: Sequence[Host], seconds: float) -> None:
    """Let time pass without calls."""
    end = vt.now + seconds
    while vt.now < end:
        step(fleet)
        vt.advance(GRID)
    step(fleet)


def spent_by(vt: VirtualTime, fleet: Sequence[Host], calls: Sequence[int], seconds: float, cents: int = 1) -> int:
    """Let each host have so many calls each hundredth of a second; return what all have spent, in cents."""
    before, end = sum(one.spent for one in fleet), vt.now + seconds
    while vt.now < end:
        step(fleet)
        for one, n in zip(fleet, calls, strict=True):
            one.calls(n, cents)
        vt.advance(GRID)
    return sum(one.spent for one in fleet) - before
