"""Exact windows of a fleet: never more than the limit in any period, and not much less."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from limits_of_fleet import Host, hosts

from resilio._native import clock
from resilio.errors import RateLimitedError
from resilio.sharing import MemoryEngine
from resilio.testing import VirtualTime, virtual_time

LIMIT, PERIOD = 100, 60.0
STEP = 0.05


def most_in_any_period(times: list[float]) -> int:
    """Return the most calls in a period that begins just after any time."""
    most = first = 0
    for i, at in enumerate(times):
        while times[first] <= at - PERIOD + 1e-9:
            first += 1
        most = max(most, i - first + 1)
    return most


class Storm:
    """Hosts with calls at random, and what goes wrong with their store, their ways to it, and themselves."""

    def __init__(self, vt: VirtualTime, seed: int, *, kills: bool) -> None:
        self.vt, self.kills, self.chance = vt, kills, random.Random(seed)
        self.ahead_us = self.troubles = 0
        self.store = MemoryEngine(lambda: clock.now_ns() // 1000 + self.ahead_us)
        self.hosts = [self.host() for _ in range(self.chance.randint(1, 4))]
        self.demand = [self.chance.choice([1.0, 5.0, 30.0]) for _ in self.hosts]
        self.admitted: list[float] = []

    def host(self) -> Host:
        """Return a host that has had an answer."""
        made = Host(self.store, self.chance.randint(1, 1000), ("100/min",), {"accuracy": "exact"})
        made.fleet.step()
        return made

    def is_time(self, seconds: float) -> bool:
        """Return True once in so many seconds, in the mean."""
        found = self.chance.random() < STEP / seconds
        self.troubles += found
        return found

    def trouble_store(self) -> None:
        """Set the store's clock, or let it forget all."""
        if self.is_time(8):
            self.ahead_us += self.chance.choice([-1, 1]) * self.chance.choice([50_000, 1_000_000, 30_000_000])
        if self.is_time(150):
            self.store.evict()

    def trouble(self, i: int) -> None:
        """Let a host's calls be more or less, its way be cut or lossy, or kill it and start another one."""
        if self.is_time(10):
            self.demand[i] = self.chance.choice([0.0, 1.0, 5.0, 30.0, 300.0])
        if self.is_time(10):
            self.hosts[i].wire.is_cut = not self.hosts[i].wire.is_cut
        if self.is_time(10):
            self.hosts[i].wire.loss = self.chance.choice([0.0, 0.3])
        if self.kills and self.is_time(15):
            self.hosts[i] = self.host()

    def call(self, i: int) -> None:
        """Make a host's calls; some of them are cancelled and count for nothing."""
        for _ in range(15):
            if self.chance.random() * 15 < self.demand[i] * STEP:
                permit = self.hosts[i].limit.try_acquire()
                if permit and self.chance.random() < 0.1:
                    permit.cancel()
                elif permit:
                    self.admitted.append(self.vt.now)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / STEP)):
            if not self.kills:
                self.trouble_store()
            for i in range(len(self.hosts)):
                self.trouble(i)
                self.call(i)
                self.hosts[i].fleet.step()
            self.vt.advance(STEP)


@pytest.mark.parametrize("kills", [True, False], ids=["hosts die", "the store forgets, and its clock is set"])
@pytest.mark.parametrize("seed", range(4))
def test_never_more_than_the_limit_in_any_minute(seed: int, kills: bool) -> None:
    """Whatever demand, losses and faults there are."""
    with virtual_time() as vt:
        storm = Storm(vt, seed, kills=kills)
        storm.run(200.0)
    assert storm.troubles > 20
    assert len(storm.admitted) >= LIMIT / 2
    assert most_in_any_period(storm.admitted) <= LIMIT


@pytest.mark.real(1.0)
@pytest.mark.parametrize("n", [1, 4])
def test_a_steady_demand_uses_the_limit(n: int) -> None:
    """Calls that find no token wait for an answer; in five minutes at least nine tenths of the limit are used."""
    admitted: list[float] = []

    async def calls(one: Host, vt: VirtualTime, end: float) -> None:
        while vt.now < end:
            try:
                async with one.limit:
                    admitted.append(vt.now)
            except RateLimitedError:
                pass
            await anyio.sleep(n / 2.5)

    async def main(vt: VirtualTime) -> None:
        fleet, end = hosts(n, "100/min", accuracy="exact"), vt.now + 300
        async with anyio.create_task_group() as group:
            for one in fleet:
                group.start_soon(calls, one, vt, end)
            while vt.now < end:
                for one in fleet:
                    one.fleet.step()
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    with virtual_time() as vt:
        vt.run(lambda: main(vt), backend="asyncio")
    assert len(admitted) >= 0.9 * LIMIT * 5
    assert most_in_any_period(admitted) <= LIMIT


def test_no_call_has_a_token_before_the_store_has_granted_it() -> None:
    """A host that is new has one call of a bucket on credit; of a window that would be the 101st."""
    with virtual_time() as vt:
        for one in hosts(3, "100/min", accuracy="exact"):
            assert one.tries(5) == 0
            one.fleet.step()
            vt.advance(0.5)
            one.fleet.step()
            assert one.tries(5) == 1, "what the first calls have asked for"


@pytest.mark.parametrize(("rule", "admits"), [(None, 0), ("closed", 0), ("open", 50)])
def test_a_window_without_its_store_is_closed_unless_the_limit_says_otherwise(rule: Any, admits: int) -> None:
    """The fleet's own rule is for limits that can have a share."""
    with virtual_time() as vt:
        (host,) = hosts(1, "100/min", accuracy="exact", on_store_down=rule)
        host.fleet.step()
        host.wire.is_cut = True
        for _ in range(100):
            vt.advance(0.05)
            host.fleet.step()
        assert host.tries(50) == admits


def test_a_window_that_is_configured_later_is_exact_from_then_on() -> None:
    """Its state is another one in the store: that of the bucket does not know when its tokens were spent."""
    with virtual_time():
        (host,) = hosts(1, "100/min")
        host.fleet.step()
        host.limit.reconfigure(accuracy="exact")
        host.fleet.step()
        assert [key.split(":")[2] for key in host.wire.store.states] == ["limit", "window"]
        assert host.limit.snapshot().sharing.regime == "exact"  # type: ignore[union-attr]


def test_other_rates_are_buckets() -> None:
    """A rate with a burst has no window in one process either; each of its calls is asked for all the same."""
    with virtual_time():
        (host,) = hosts(1, "100/min", accuracy="exact", burst=10)
        host.fleet.step()
        assert [key.split(":")[2] for key in host.wire.store.states] == ["limit"]
