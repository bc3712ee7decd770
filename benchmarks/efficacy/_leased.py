"""Real rate limits of a fleet at the loads of `_leases`: gates, couriers and rules, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from benchmarks.efficacy._leases import Arrivals, Load
from resilio import rate_limit, registry
from resilio._native import clock
from resilio._native.simulation import BEGIN_NS, EventLoop
from resilio.simulation import Store
from resilio.simulation._hosts import Host, Place, client_fleet
from resilio.simulation._stores import SimulatedStore
from resilio.testing import seeded, virtual_time

__all__ = ["Leased"]


class Leased:
    """
    Processes on hosts of their own that share a limit; `run` makes their calls.

    Args:
        load: The load.

        store: The store, with the tick of the couriers.

        seed: Of phases and messages.

    Attributes:
        admitted: The times of admitted calls, in seconds.

        trips: Trips to the store.
    """

    def __init__(self, load: Load, store: Store, seed: int = 3) -> None:
        self.admitted: list[float] = []
        self.trips = 0
        self._load = load
        self._record = store
        self._seed = seed
        self._arrivals: Arrivals = ()
        self._limits: list[Any] = []
        self._places: list[Place] = []

    def run(self, arrivals: Arrivals, faults: Sequence[Any] = ()) -> Leased:
        """Make the calls, and return itself; the store has these faults meanwhile."""
        with virtual_time(), registry.isolated(), seeded(self._seed):
            clock.set_virtual(BEGIN_NS)
            failed: list[dict[str, Any]] = []
            self._loop = EventLoop(failed.append)
            source = Random(f"{self._seed}/store")
            journal = max((getattr(fault, "loses", 0.0) for fault in faults), default=0.0)
            store = SimulatedStore(self._record, self._loop, source, journal)
            for process in range(self._load.processes):
                self._add(store, process)
            for fault in faults:
                self._loop.at(_ns(fault.at), store.begin, fault)
                self._loop.at(_ns(fault.end), store.end, fault)
            self._arrivals = arrivals
            self._loop.at(_ns(arrivals[0][0]), self._arrive, 0)
            self._loop.run(_ns(self._load.seconds), lambda: True)
            self.trips = store.trips
        if failed:
            raise RuntimeError(f"the simulation failed: {failed[0]}")
        return self

    def _add(self, store: SimulatedStore, process: int) -> None:
        place, load = Host().start(store, process), self._load
        with place.here(), registry.isolated():
            rate = f"{load.rate:g}/s"
            self._limits.append(rate_limit(rate, burst=int(load.burst), name="limit", scope=client_fleet()))
        self._places.append(place)

    def _arrive(self, number: int) -> None:
        now, process = self._arrivals[number]
        permit = self._limits[process].try_acquire()
        if permit:
            permit.success()
            self.admitted.append(now)
        self._places[process].look()
        if number + 1 < len(self._arrivals):
            self._loop.at(_ns(self._arrivals[number + 1][0]), self._arrive, number + 1)


def _ns(seconds: float) -> int:
    return BEGIN_NS + round(seconds * 1e9)
