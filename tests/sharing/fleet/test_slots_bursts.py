"""Bursts at a bulkhead of a fleet that has no queue: many calls at once at a host that had few slots."""

from __future__ import annotations

import threading

import anyio
import pytest
from bulkheads_of_fleet import Hosts

from resilio import pipeline
from resilio.errors import BulkheadFullError
from resilio.testing import VirtualTime

BACKENDS = ["asyncio", "trio"]
TRIP = 0.002
"""Seconds between two looks whether a courier is due: a trip takes as long."""


def burst(
    vt: VirtualTime, fleet: Hosts, calls: int, backend: str = "asyncio", *, every: float = 0.0, lasting: float = 0.2
) -> tuple[list[float], list[float]]:
    """
    Make calls at the first host, all at once or one in *every* so many seconds.

    Returns:
        The seconds after which calls were admitted, and those after which calls were rejected.
    """
    admitted: list[float] = []
    rejected: list[float] = []

    async def stepping() -> None:
        while True:
            for host in fleet.all:
                host.fleet.step()
            await anyio.sleep(TRIP)

    async def call() -> None:
        began = vt.now
        try:
            async with fleet.all[0].bulkhead:
                admitted.append(vt.now - began)
                await anyio.sleep(lasting)
        except BulkheadFullError:
            rejected.append(vt.now - began)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stepping)
            async with anyio.create_task_group() as callers:
                for _ in range(calls):
                    callers.start_soon(call)
                    await anyio.sleep(every)
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    return admitted, rejected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n", "capacity", "calls"), [(1, 200, 50), (4, 200, 50), (4, 10, 8)])
def test_a_burst_passes_that_the_fleet_has_slots_for(
    vt: VirtualTime, n: int, capacity: int, calls: int, backend: str
) -> None:
    """Of 50 calls at once at a bulkhead of 200 two were admitted, with 198 slots free; of 8 at one of 10 none was."""
    fleet = Hosts(vt, n, capacity)
    fleet.pass_time(10)
    admitted, rejected = burst(vt, fleet, calls, backend)
    assert (len(admitted), rejected) == (calls, [])
    assert max(admitted) <= 0.1


def test_calls_beyond_the_slots_are_rejected_soon(vt: VirtualTime) -> None:
    """Ten of twenty slots are in use elsewhere, of which the host has not heard yet: it has what is left."""
    fleet = Hosts(vt, 2, 20)
    fleet.pass_time(3)
    while fleet.all[1].used < 10:
        fleet.all[1].begin(10 - fleet.all[1].used)
        fleet.pass_time(0.5)
    admitted, rejected = burst(vt, fleet, 15)
    assert 6 <= len(admitted) <= 10  # the other host has a part more than it uses
    assert len(admitted) + len(rejected) == 15
    assert max(rejected) <= 2 * fleet.all[0].fleet.timeout + TRIP
    assert set(burst(vt, fleet, 15)[1]) >= {0.0}


def test_no_call_waits_for_a_store_that_has_just_not_answered(vt: VirtualTime) -> None:
    """Slots that are not here may be anywhere: calls are rejected at once, as long as the lease stands."""
    fleet = Hosts(vt, 2, 200)
    fleet.pass_time(3)
    host = fleet.all[0]
    host.wire.loses = "asks"
    lost = host.fleet.courier.lost
    while host.fleet.courier.lost == lost:
        host.begin()
        fleet.pass_time(0.05)
    admitted, rejected = burst(vt, fleet, 50)
    assert len(admitted) < 50
    assert set(rejected) == {0.0}


def test_the_store_may_be_lost_while_calls_wait_for_it(vt: VirtualTime) -> None:
    """They end after the trip that was lost, not admitted and not forgotten."""
    fleet = Hosts(vt, 2, 200)
    fleet.pass_time(3)
    host = fleet.all[0]
    host.wire.loses = "answers"
    admitted, rejected = burst(vt, fleet, 50)
    assert len(admitted) + len(rejected) == 50
    assert 0 < max(rejected) <= 2 * host.fleet.timeout + 0.01


def test_the_first_calls_of_a_process_wait_for_the_first_answer(vt: VirtualTime) -> None:
    """One call of a new process passed before it, and the nine with it were rejected."""
    fleet = Hosts(vt, 2, 200)
    admitted, rejected = burst(vt, fleet, 10)
    assert (len(admitted), rejected) == (10, [])


@pytest.mark.parametrize(("n", "every"), [(1, 0.02), (1, 0.1), (4, 0.02)])
def test_calls_that_come_one_after_the_other_find_slots(vt: VirtualTime, n: int, every: float) -> None:
    """
    A lone host with 200 slots rejected 31 of 100 calls that began within two seconds.

    Each trip brought one slot, for the call that waited. After five of them the courier had no more early trips.
    """
    fleet = Hosts(vt, n, 200)
    fleet.pass_time(3)
    admitted, rejected = burst(vt, fleet, 100, every=every, lasting=10.0)
    assert (len(admitted), rejected) == (100, [])


def test_an_explanation_names_the_wait(vt: VirtualTime) -> None:
    """A call may wait though the bulkhead has no queue."""
    fleet = Hosts(vt, 1, 20)
    fleet.pass_time(1)
    text = " ".join(str(pipeline(fleet.all[0].bulkhead).explain()).split())
    assert "wait for one trip where it has more" in text


# ---- shadow mode


def in_shadow(vt: VirtualTime, n: int, capacity: int, calls: int, backend: str) -> tuple[int, int]:
    """Return how many of a burst would have waited, and would have been rejected, in shadow mode."""
    fleet = Hosts(vt, n, capacity, enforce=False)
    fleet.pass_time(10)
    shadow = fleet.all[0].bulkhead
    if backend != "threads":
        admitted, rejected = burst(vt, fleet, calls, backend)
        assert (len(admitted), max(admitted), rejected) == (calls, 0.0, [])
    else:
        begun = threading.Barrier(calls)
        threads = [threading.Thread(target=shadow.call, args=(begun.wait,)) for _ in range(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = shadow.snapshot()
    return found.would_wait, found.would_reject


@pytest.mark.parametrize("backend", ["asyncio", "threads"])
@pytest.mark.parametrize(("n", "capacity", "calls"), [(1, 200, 50), (4, 200, 50), (4, 10, 8), (1, 10, 50), (4, 40, 50)])
def test_shadow_mode_counts_a_burst_as_enforcement_does(
    vt: VirtualTime, n: int, capacity: int, calls: int, backend: str
) -> None:
    """
    A service looks at `would_reject` for a day, to see if a bulkhead of 200 for its fleet is enough.

    A call without a slot here counted as rejected, though the store had some and one trip brings them: of a burst of 50
    it showed 48 rejections, and enforcement has none.
    """
    fleet = Hosts(vt, n, capacity)
    fleet.pass_time(10)
    admitted, rejected = burst(vt, fleet, calls)
    waited = sum(after > 0 for after in admitted)
    assert in_shadow(vt, n, capacity, calls, backend) == (waited, len(rejected))
