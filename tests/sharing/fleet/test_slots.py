"""Bulkheads of a fleet: slots go where they are needed, never more than there are, and no call waits for a store."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from bulkheads_of_fleet import Hosts, filled

from resilio import bulkhead, pipeline
from resilio.errors import BulkheadFullError
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime, virtual_time


@pytest.fixture
def vt() -> Any:
    with virtual_time() as vt:
        yield vt


# ---- one fleet, one number of calls


def test_hosts_have_the_capacity_together(vt: VirtualTime) -> None:
    """Three hosts with a bulkhead of 24 had 72 calls in flight; now they have 24, by equal parts, as all want more."""
    fleet = filled(vt, 3, 24)
    assert fleet.used == 24
    for host in fleet.all:
        host.end(24)
    for _ in range(80):
        fleet.begin(24)
        fleet.pass_time(0.05)
        assert fleet.used <= 24
    assert [host.used for host in fleet.all] == [8, 8, 8]


def test_one_busy_host_gets_the_slots_of_idle_ones(vt: VirtualTime) -> None:
    """A share of a third each would leave two thirds unused."""
    fleet = filled(vt, 3, 24)
    busy, *idle = fleet.all
    for host in idle:
        host.end(24)
    for _ in range(240):
        busy.begin(24)
        fleet.pass_time(0.05)
    assert busy.used == 24
    assert busy.begin() == 0


def test_slots_in_use_are_never_taken_from_calls(vt: VirtualTime) -> None:
    """The first host has them all; the others get theirs as its calls end, and it admits none meanwhile."""
    fleet = Hosts(vt, 2, 20)
    first, second = fleet.all
    while first.used < 20:
        first.begin(20)
        fleet.pass_time(0.05)
    for _ in range(40):
        second.begin(20)
        fleet.pass_time(0.05)
    assert (first.used, second.used) == (20, 0)
    first.end(12)
    for _ in range(20):
        first.begin(20)
        second.begin(20)
        fleet.pass_time(0.05)
        assert fleet.used <= 20
    assert (first.used, second.used) == (10, 10)


def test_before_the_first_answer_a_host_has_one_call(vt: VirtualTime) -> None:
    """The first call of a process finds no answer yet: it passes all the same, and the store learns of its slot."""
    fleet = Hosts(vt, 3, 24)
    assert fleet.begin(5) == [1, 1, 1]
    fleet.pass_time(0.05)
    assert all(host.begin(1) for host in fleet.all)


def test_what_rejects_is_the_fleets(vt: VirtualTime) -> None:
    """The message names the fleet, and what this host has of it, not the number in the code."""
    fleet = filled(vt, 3, 24)
    permit: Any = fleet.all[0].bulkhead.try_acquire()
    assert isinstance(permit.error, BulkheadFullError)
    assert (permit.error.scope, permit.error.reason) == ("fleet", "full")
    assert permit.error.measured == permit.error.limit == fleet.all[0].used
    assert "of this fleet" in str(permit.error)


def test_a_weight_above_what_is_here_waits_for_slots_of_others(vt: VirtualTime) -> None:
    """A call of weight 10 is not too heavy for a fleet of 24, though its host has fewer slots on lease."""
    fleet = Hosts(vt, 2, 24, weight=10)
    heavy, other = fleet.all
    for _ in range(20):
        heavy.begin()
        fleet.pass_time(0.05)
    assert heavy.used == 2
    assert other.begin() == 0
    assert heavy.bulkhead.used == 20


def test_trips_are_few(vt: VirtualTime) -> None:
    """Four a second while it is in use, whatever the number of calls; one in three seconds at rest."""
    fleet = Hosts(vt, 1, 24)
    (host,) = fleet.all
    for _ in range(40):
        host.begin(2)
        host.end(2)
        fleet.pass_time(0.05)
    trips = host.fleet.courier.trips
    for _ in range(200):
        host.begin(2)
        host.end(1)
        fleet.pass_time(0.05)
        host.end(24)
    assert host.fleet.courier.trips - trips <= 45
    fleet.pass_time(10)
    trips = host.fleet.courier.trips
    fleet.pass_time(30)
    assert 8 <= host.fleet.courier.trips - trips <= 11


def test_resizing_counts_for_the_whole_host(vt: VirtualTime) -> None:
    """`resize` changes the capacity that this host asks with; calls in flight go on."""
    fleet = filled(vt, 1, 24)
    (host,) = fleet.all
    host.bulkhead.resize(10)
    fleet.pass_time(0.5)
    assert (host.used, host.bulkhead.available) == (24, -14)
    host.end(20)
    assert host.begin(24) == 6
    host.bulkhead.resize(100)
    for _ in range(20):
        host.begin(100)
        fleet.pass_time(0.05)
    assert host.used == 100


def test_a_closed_bulkhead_rejects_for_itself(vt: VirtualTime) -> None:
    """`close` is of this process: its rejections are not the fleet's, and its slots go to others."""
    fleet = filled(vt, 2, 24)
    first, second = fleet.all
    first.bulkhead.close()
    rejection: Any = first.bulkhead.try_acquire()
    assert (rejection.error.scope, rejection.error.reason) == ("process", "closed")
    first.end(24)
    for _ in range(240):
        second.begin(24)
        fleet.pass_time(0.05)
    assert second.used == 24


def test_shadow_mode_rejects_nothing(vt: VirtualTime) -> None:
    """`enforce=False` counts what would have been rejected."""
    fleet = Hosts(vt, 2, 4, enforce=False)
    assert fleet.begin(10) == [10, 10]
    assert fleet.all[0].bulkhead.snapshot().would_reject > 0


# ---- calls that wait


def test_a_call_that_waits_gets_a_slot_of_another_host(vt: VirtualTime) -> None:
    """A waiting call was woken by calls of its own process alone: now it is, when the allotment grows."""

    async def main() -> list[float]:
        fleet = Hosts(vt, 2, 20, max_queued=10, max_wait=60)
        waits, busy = fleet.all
        while busy.used < 20:
            busy.begin(20)
            await passing(fleet)
        began, waited = vt.now, []

        async def one() -> None:
            async with waits.bulkhead:
                waited.append(vt.now - began)
                await anyio.sleep(100)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
            for i in range(100):
                if i == 20:
                    busy.end(5)
                await passing(fleet)
            group.cancel_scope.cancel()
        return waited

    for backend in ("asyncio", "trio"):
        waited = vt.run(main, backend=backend)
        assert len(waited) == 3
        assert all(1 <= wait <= 1.6 for wait in waited)


async def passing(fleet: Hosts) -> None:
    """Let a courier's twentieth of a second pass in a task."""
    await anyio.sleep(0.05)
    for host in fleet.all:
        host.fleet.step()


def test_few_slots_are_asked_for_by_the_calls_that_wait(vt: VirtualTime) -> None:
    """Two slots among three hosts cannot be leased ahead: each is asked for by a call, and given back at its end."""

    async def main() -> tuple[int, int]:
        fleet = Hosts(vt, 3, 2, fleet={"peers": 3}, max_queued=100, max_wait=60)
        running, most, done = 0, 0, 0

        async def one(host: Any) -> None:
            nonlocal running, most, done
            async with host.bulkhead:
                running += 1
                most = max(most, running)
                await anyio.sleep(0.5)
                running -= 1
                done += 1

        async with anyio.create_task_group() as group:
            for host in fleet.all:  # each has had an answer
                host.begin()
                host.end()
                await passing(fleet)
            for host in fleet.all:
                for _ in range(8):
                    group.start_soon(one, host)
            while done < 24:
                await passing(fleet)
        assert {host.sharing.regime for host in fleet.all} == {"asked"}
        return most, done

    for backend in ("asyncio", "trio"):
        began = vt.now
        most, done = vt.run(main, backend=backend)
        assert (most, done) == (2, 24)
        assert vt.now - began <= 9.5  # six seconds, if no slot were ever free


def test_asked_slots_go_back_at_once(vt: VirtualTime) -> None:
    """A slot whose call has ended is of use to others before the next tick."""
    fleet = Hosts(vt, 3, 1, fleet={"peers": 3})
    first, second, _ = fleet.all
    fleet.begin(1)
    for host in fleet.all:
        host.end()
    fleet.pass_time(0.3)
    while not first.begin():
        fleet.pass_time(0.05)
    for _ in range(20):
        assert second.begin() == 0
        fleet.pass_time(0.05)
    first.end()
    waited = 0.0
    while not second.begin():
        fleet.pass_time(0.01, 0.01)
        waited += 0.01
    assert waited <= 0.1


# ---- as a user sees it


def test_snapshot_and_explain(vt: VirtualTime) -> None:
    """What is here on lease, how old it is, and what comes without a store."""
    fleet = Hosts(vt, 2, 24)
    fleet.begin(3)
    fleet.pass_time(3)
    seen = fleet.all[0].bulkhead.snapshot()
    assert (seen.limit, seen.inflight) == (24, 1)
    sharing = seen.sharing
    assert sharing is not None
    assert (sharing.scope, sharing.peers, sharing.regime, sharing.lost) == ("fleet:shop", 2, "leased", 0)
    assert sharing.outstanding == fleet.all[0].bulkhead.available > 0
    assert sharing.age is not None
    assert sharing.age <= 0.3
    assert sharing.trips > 3
    text = " ".join(str(pipeline(fleet.all[0].bulkhead).explain()).split())
    assert "calls take slots that the store has leased to this host, and wait for one trip where it has more" in text
    assert "while the store is away this host has its share of the permits" in text


def test_a_fleet_is_private_under_virtual_time(vt: VirtualTime) -> None:
    """Tests of a service meet no store: the bulkhead is the process's own, with its number of permits."""
    alone = Fleet("alone", MemoryEngine())
    own = bulkhead(3, name="own", scope=alone)
    permits = [own.try_acquire() for _ in range(4)]
    assert [bool(permit) for permit in permits] == [True, True, True, False]
    sharing = own.snapshot().sharing
    assert sharing is not None
    assert sharing.degraded == "private"


def test_more_slots_than_a_fleet_can_have() -> None:
    """A million slots fit into the memory; the error names the option, its value and the most."""
    with pytest.raises(ValueError, match="max_concurrent must be at most 1,048,575 in a fleet, not 2,000,000"):
        bulkhead(2_000_000, name="large", scope=Fleet("shop", MemoryEngine(), is_stepped=True))
