"""
The order of calls that wait for a fleet's rate limit in several workers of one host, on the virtual clock.

The worker with the thread that asks the store served its own calls first when an answer came. If it always had more of
them than the answer had tokens, the others got nothing: 120, 0 and 0 of "4/s" in half a minute.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from resilio import rate_limit
from resilio._native import clock
from resilio._native.shared import Region
from resilio.sharing import Fleet, MemoryEngine
from resilio.sharing._fleet.thread import trip
from resilio.sharing._fleet.ties.limit import LimitTie
from resilio.testing import VirtualTime

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

HELD = 0.01
"""Seconds that a call takes in the mean."""
LOOK = 0.005
"""Seconds between two turns of the workers' threads."""


class Worker:
    """A process of the host: a limit, its callers, and the turns of its thread."""

    def __init__(self, region: Region, store: MemoryEngine, rate: str, burst: float) -> None:
        self.limit: Any = rate_limit(rate, burst=burst, max_wait=60, max_queued=1000, scope="process")
        self.fleet = Fleet("shop", store, is_stepped=True)
        self.admitted = 0
        gate = self.limit._gate
        kind, stock, size = gate.fleet_cell_wanted()
        cell = region.cell(kind, "limit", stock, size, region.join())
        gate.share_fleet(cell)
        self.tie = LimitTie(self.limit, gate, cell, self.fleet, name="limit")
        self.fleet.courier.add(self.tie, clock.now_ns())

    def turn(self) -> None:
        """Do what the thread does when it wakes up."""
        courier = self.fleet.courier
        while courier.due_ns(clock.now_ns()) <= clock.now_ns():
            trip(courier, self.fleet.engine, 1.0)

    async def calls(self, draw: random.Random) -> None:
        """Call, again and again."""
        while True:
            await self.limit.acall(asyncio.sleep, draw.expovariate(1 / HELD))
            self.admitted += 1


def workers(n: int, rate: str, burst: float) -> list[Worker]:
    """Return as many workers of one host, the first of which makes the trips."""
    region, store = Region.private(), MemoryEngine()
    found = [Worker(region, store, rate, burst) for _ in range(n)]
    found[0].turn()
    return found


async def play(workers: Sequence[Worker], callers: int, seconds: float) -> tuple[list[int], int]:
    """Let callers of each worker call for so long; return the calls admitted in its latter half, and the trips."""
    draw = random.Random(1)
    tasks = [asyncio.ensure_future(one.calls(draw)) for one in workers for _ in range(callers)]
    before, trips = [0] * len(workers), 0
    turns = round(seconds / LOOK)
    for i in range(turns):
        if i == turns // 2:
            before, trips = [one.admitted for one in workers], sum(one.fleet.courier.trips for one in workers)
        for one in workers:
            one.turn()
        await asyncio.sleep(LOOK)
    for task in tasks:
        task.cancel()
    trips = sum(one.fleet.courier.trips for one in workers) - trips
    return [one.admitted - was for one, was in zip(workers, before, strict=True)], trips


@pytest.mark.parametrize(
    ("rate", "burst", "callers", "seconds", "most_trips"),
    [
        pytest.param(4, 4, 4, 60, 120, id="each call is asked for"),
        pytest.param(4, 100, 4, 60, 120, id="a slow rate"),
        pytest.param(20, 20, 8, 30, 60, id="less than a call of each caller in an answer"),
        pytest.param(100, 100, 16, 20, 41, id="many callers"),
        pytest.param(1000, 100, 32, 4, 41, id="a fast rate"),
    ],
)
def test_workers_whose_calls_wait_get_the_same(
    vt: VirtualTime, rate: int, burst: float, callers: int, seconds: float, most_trips: int
) -> None:
    """Each worker gets its part of the rate, within a tenth. Nothing is lost, and there are no more trips for it."""
    found, trips = vt.run(play, workers(3, f"{rate}/s", burst), callers, seconds)
    assert max(found) <= 1.1 * min(found)
    assert sum(found) >= 0.95 * rate * seconds / 2
    assert trips <= most_trips


async def beside_one_that_stands(found: Sequence[Worker], parked: int, seconds: float) -> tuple[list[int], int]:
    """Let the last worker stand still with calls in the queue; return what the others get, and what all wait for."""
    *living, stands = found
    calls = [stands.limit.acall(asyncio.sleep, HELD) for _ in range(parked)]
    for call in calls:
        call.send(None)  # it waits, and is not resumed: the loop does not know of it
    admitted, _ = await play(living, 8, seconds)
    waiting = living[0].tie.leases.now(0)[3] // 1_000_000
    for call in calls:
        call.close()
    return admitted, waiting


@pytest.mark.parametrize("before", [0.0, 1.0], ids=["the first trips", "later trips"])
@pytest.mark.parametrize("parked", [4, 8, 16, 64])
def test_a_worker_that_stands_still_keeps_nothing_from_the_others(vt: VirtualTime, parked: int, before: float) -> None:
    """
    Half a second after tokens were there for its calls the order begins anew; then the others have all of it.

    Fewer tokens than its calls wanted lay there for ever, as later calls took what came in beyond them. With 16 of a
    burst of 20 the others had 15 of "20/s".
    """
    found = workers(3, "20/s", 20)
    vt.run(play, found, 8, before)
    started = sum(one.admitted for one in found)
    admitted, waiting = vt.run(beside_one_that_stands, found, parked, 4.0)
    assert sum(one.admitted for one in found) - started >= 0.95 * 20 * 3
    assert sum(admitted) >= 0.95 * 20 * 2
    assert max(admitted) - min(admitted) <= 8
    assert waiting <= 2 * 8, "no more than the calls of the others"
