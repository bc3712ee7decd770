"""Bulkheads of a fleet on the virtual clock: hosts with one store, and calls that last."""

from __future__ import annotations

from typing import Any

from breakers_of_fleet import Wire

from resilio._policies.bulkhead.policy import Bulkhead, BulkheadConfig
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime

__all__ = ["Host", "Hosts", "filled"]


class Host:
    """A host with a way to the store, a bulkhead of its own, and calls in flight."""

    def __init__(self, store: MemoryEngine, capacity: int, fleet: dict[str, Any], options: dict[str, Any]) -> None:
        self.wire = Wire(store)
        self.fleet = Fleet("shop", self.wire, is_stepped=True, **fleet)
        self.bulkhead = Bulkhead(BulkheadConfig(capacity, scope=self.fleet, **options), "model")
        self.calls: list[Any] = []

    def begin(self, n: int = 1) -> int:
        """Begin up to this number of calls; return how many were admitted."""
        permits = [permit for permit in (self.bulkhead.try_acquire() for _ in range(n)) if permit]
        self.calls += permits
        return len(permits)

    def end(self, n: int = 1) -> None:
        """End the oldest calls."""
        for _ in range(min(n, len(self.calls))):
            self.calls.pop(0).success()

    @property
    def used(self) -> int:
        """Calls in flight."""
        return len(self.calls)

    @property
    def sharing(self) -> Any:
        """How the bulkhead is shared now."""
        return self.bulkhead.snapshot().sharing


class Hosts:
    """The hosts of a fleet, and their time."""

    def __init__(
        self, vt: VirtualTime, n: int, capacity: int, *, fleet: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.vt = vt
        self.store = MemoryEngine()
        self.capacity = capacity
        self._given = fleet or {}, options
        self.all = [self.one_more() for _ in range(n)]

    def one_more(self) -> Host:
        """Return another host, which takes no part in time yet."""
        return Host(self.store, self.capacity, *self._given)

    def pass_time(self, seconds: float, each: float = 0.05) -> None:
        """Let time pass, and the couriers exchange."""
        for _ in range(max(1, round(seconds / each))):
            self.vt.advance(each)
            for host in self.all:
                host.fleet.step()

    def begin(self, n: int) -> list[int]:
        """Begin up to this number of calls at each host; return how many were admitted."""
        return [host.begin(n) for host in self.all]

    @property
    def used(self) -> int:
        """Calls in flight, of all hosts."""
        return sum(host.used for host in self.all)


def filled(vt: VirtualTime, hosts: int, capacity: int, **options: Any) -> Hosts:
    """Return hosts that all try to have more calls than there are slots."""
    fleet = Hosts(vt, hosts, capacity, **options)
    for _ in range(60):
        fleet.begin(capacity)
        fleet.pass_time(0.05)
    return fleet
