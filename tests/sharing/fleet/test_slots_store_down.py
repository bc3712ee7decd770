"""Bulkheads of a fleet while its store, or a part of its hosts, is away, and when they are back."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from bulkheads_of_fleet import Host, Hosts, filled

from resilio.sharing import MemoryEngine
from resilio.sharing import host as sharing_host
from resilio.testing import VirtualTime, virtual_time


@pytest.fixture
def vt() -> Any:
    with virtual_time() as vt:
        yield vt


@pytest.mark.parametrize(("down", "calls"), [("local", 8), ("open", 24), ("closed", 0)])
def test_without_a_store_leases_are_used_to_their_end(vt: VirtualTime, down: str, calls: int) -> None:
    """For ten seconds all goes on as it was; then `on_store_down` rules, and no call waits or fails for the store."""
    fleet = filled(vt, 3, 24, on_store_down=down)
    for host in fleet.all:
        host.end(24)
        host.wire.loses = "asks"
    fleet.pass_time(9)
    assert sum(fleet.begin(24)) == 24
    for host in fleet.all:
        host.end(24)
    fleet.pass_time(2)
    assert fleet.begin(24) == [calls] * 3
    assert {host.sharing.degraded for host in fleet.all} == {"store_down"}


def test_a_share_is_at_least_one(vt: VirtualTime) -> None:
    """Three hosts of a fleet with two slots: without a store each has one, which is stated."""
    fleet = filled(vt, 3, 2)
    for host in fleet.all:
        host.end(2)
        host.wire.loses = "asks"
    fleet.pass_time(11)
    assert fleet.begin(2) == [1, 1, 1]


def test_the_fleets_rule_counts_where_the_bulkhead_has_none(vt: VirtualTime) -> None:
    """`fleet(..., on_store_down="closed")` is for all policies that name nothing else."""
    fleet = filled(vt, 1, 8, fleet={"on_store_down": "closed"})
    (host,) = fleet.all
    host.end(8)
    host.wire.loses = "asks"
    fleet.pass_time(11)
    assert host.begin() == 0


def test_a_store_that_was_never_there(vt: VirtualTime) -> None:
    """The share of `peers` counts as soon as the first ask is lost."""
    fleet = Hosts(vt, 2, 24, fleet={"peers": 4})
    for host in fleet.all:
        host.wire.loses = "asks"
    fleet.begin(1)
    fleet.pass_time(0.1)
    fleet.begin(24)
    assert [host.used for host in fleet.all] == [6, 6]


def test_a_store_that_is_back_brings_the_fleets_slots_back(vt: VirtualTime) -> None:
    """Calls of the time without a store keep their slots; together there are no new ones until they are few enough."""
    fleet = filled(vt, 3, 24, on_store_down="open")
    for host in fleet.all:
        host.wire.loses = "asks"
    fleet.pass_time(11)
    fleet.begin(24)
    assert fleet.used == 72
    for host in fleet.all:
        host.wire.loses = ""
    fleet.pass_time(3)
    assert fleet.begin(24) == [0, 0, 0]
    for _ in range(80):
        for host in fleet.all:
            host.end(1)
        fleet.begin(24)
        fleet.pass_time(0.05)
    assert fleet.used <= 24


def test_a_lost_answer_changes_nothing(vt: VirtualTime) -> None:
    """One in two answers is lost: slots are renewed all the same, and none is given twice."""
    fleet = filled(vt, 3, 24)
    for i in range(400):
        for host in fleet.all:
            host.wire.loses = "answers" if i % 2 else ""
            host.end(1)
        fleet.begin(2)
        fleet.pass_time(0.05)
        assert fleet.used <= 24
    assert fleet.used >= 20


@pytest.mark.parametrize("ticks", range(8))
def test_what_is_kept_while_answers_are_lost_is_not_given_twice(vt: VirtualTime, ticks: int) -> None:
    """A host gives slots up as it falls idle, its answers are lost at any point of that, and its calls come back."""
    fleet = Hosts(vt, 2, 24)
    idle, busy = fleet.all
    while idle.used < 24:
        idle.begin(24)
        fleet.pass_time(0.05)
    idle.end(22)
    fleet.pass_time(0.25 * ticks)
    idle.wire.loses = "answers"
    for _ in range(60):
        busy.begin(24)
        fleet.pass_time(0.05)
    idle.begin(24)
    assert busy.used > 0 or ticks < 4
    assert fleet.used <= 24


def test_a_host_that_was_cut_off_has_no_new_calls_beyond_what_is_there(vt: VirtualTime) -> None:
    """Its lease had ended, its calls went on, and others took the slots: as its calls ended it admitted new ones."""
    fleet = filled(vt, 2, 24, on_store_down="closed")
    cut, other = fleet.all
    cut.wire.loses = "asks"
    for _ in range(300):
        other.begin(24)
        fleet.pass_time(0.05)
    assert other.used == 24
    assert cut.used > 10
    cut.wire.loses = ""
    for _ in range(10):
        fleet.pass_time(0.25)
        cut.end(1)
        assert cut.begin(1) == 0
    other.end(24)
    for _ in range(20):
        fleet.pass_time(0.05)
        fleet.begin(24)
    assert 22 <= fleet.used <= 24


def test_a_host_that_died_leaves_its_slots_after_ten_seconds(vt: VirtualTime) -> None:
    """A gauge that is decremented by its holder leaks for good; a lease lapses."""
    fleet = filled(vt, 3, 24)
    fleet.all.pop()
    survivors = fleet.used
    for _ in range(160):
        fleet.begin(24)
        fleet.pass_time(0.05)
        assert fleet.used == survivors
    for _ in range(100):
        fleet.begin(24)
        fleet.pass_time(0.05)
    assert fleet.used == 24


def test_a_flushed_store_gives_no_slot_twice(vt: VirtualTime) -> None:
    """FLUSHALL: holders keep theirs, a new host gets none until every lease of before has ended."""
    fleet = filled(vt, 2, 24)
    fleet.store.evict()
    fleet.pass_time(0.3)
    fleet.all.append(fleet.one_more())
    new = fleet.all[-1]
    for i in range(190):
        for host in fleet.all[:2]:
            host.end(1)
        fleet.begin(24)
        fleet.pass_time(0.05)
        assert fleet.used <= 24 + 1  # the call of the new host before its first answer
        if i < 100:
            assert new.used <= 1
    for _ in range(100):
        for host in fleet.all:
            host.end(1)
        fleet.begin(24)
        fleet.pass_time(0.05)
    assert [host.used for host in fleet.all] == [8, 8, 8]


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("idle", [0.0, 2.0])
@pytest.mark.parametrize("rule", ["local", "open", "closed"])
def test_a_service_that_starts_again_is_as_new_to_its_store(rule: str, idle: float) -> None:
    """
    Its host's memory keeps the old lease: until the first answer "closed" would reject all, and "open" none.

    With its first call two seconds after its start it had a share of its own: 30 of 20 slots were in use by two hosts.
    """
    with virtual_time() as vt:
        store, group = MemoryEngine(), sharing_host("the group of a service")

        def start() -> Host:
            return Host(store, 20, {"group": group}, {"on_store_down": rule})

        old = start()
        old.fleet.step()
        assert old.sharing.age is not None
        for tie in list(old.fleet.courier._entries):  # the process ends
            old.fleet.courier.remove(tie)
        vt.advance(60.0)

        new = start()
        vt.advance(idle)
        assert new.begin(5) == 1, "as of a host that is new: one call"
        new.fleet.step()
        vt.advance(1.0)
        new.fleet.step()
        assert new.sharing.degraded is None
        assert new.begin(5) > 0


def test_a_store_that_is_back_is_asked_for_the_slots_that_calls_wait_for(vt: VirtualTime) -> None:
    """
    Two of three calls wait while the store is away, and it is back as soon as the host has noticed that it is alone.

    At that moment the host serves its calls once more, in vain. If it counted them again, it would ask for a fourth
    slot, which none of its calls takes and the calls of another host lack.
    """

    async def main() -> list[int]:
        fleet = Hosts(vt, 2, 4, fleet={"peers": 2}, max_queued=10, max_wait=60, on_store_down="closed")
        host, wants = fleet.all[0], []
        exchange = host.wire.exchange

        def recorded(asks: Any, timeout: float) -> Any:
            wants.append(asks[0].want)
            return exchange(asks, timeout)

        async def one() -> None:
            async with host.bulkhead:
                await anyio.sleep(60)

        host.wire.exchange = recorded  # type: ignore[method-assign]
        host.begin()
        host.end()
        host.fleet.step()
        assert host.sharing.regime == "asked"
        host.wire.loses = "asks"
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
            while host.fleet.degraded is None:
                await anyio.sleep(0.05)
                host.fleet.step()
            lost = len(wants)
            host.wire.loses = ""
            while host.bulkhead.used < 3:
                await anyio.sleep(0.05)
                host.fleet.step()
            group.cancel_scope.cancel()
        return wants[lost:]

    assert vt.run(main) == [3]
