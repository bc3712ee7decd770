"""A bulkhead of the host: several workers take permits from one table, each with a queue of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from policies.bulkhead.test_bulkhead_machine import BulkheadMachine

from resilio import pipeline
from resilio._native.shared import Region
from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
from resilio.errors import BulkheadFullError
from resilio.testing import no_wait

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
MS = 0.001


class Workers:
    """Workers of one host in one process: each has a bulkhead of its own, and all of them one table of permits."""

    def __init__(self, many: int, permits: int, **options: Any) -> None:
        self.region = Region.private()
        self.members = [self.region.member, *(self.region.join() for _ in range(many - 1))]
        self.limits = [bulkhead(permits, **options) for _ in range(many)]
        for number in range(many):
            self.share(number)

    def share(self, number: int) -> None:
        gate = self.limits[number]._gate
        kind, stock, size = gate.cell_wanted()
        gate.share(self.region.cell(kind, "pool", stock, size, self.members[number]))

    def __iter__(self) -> Any:
        return iter(self.limits)


def host_of(limit: Bulkhead) -> int:
    return limit._gate.used_by_host


async def hold(limit: Bulkhead, seconds: float, then: Callable[[], object] = int) -> None:
    async with limit:
        await anyio.sleep(seconds)
        then()


# ---- permits ---------------------------------------------------------------------------------------------------------


def test_all_workers_together_have_the_permits_of_one():
    """bulkhead(3) of four workers admits three calls, not twelve; a rejection shows the host's numbers."""
    workers = Workers(4, 3)
    held = [limit.acquire() for limit in list(workers)[:3]]
    with pytest.raises(BulkheadFullError) as full:
        workers.limits[3].acquire()
    assert (full.value.reason, full.value.measured, full.value.limit) == ("full", 3, 3)
    assert [limit.used for limit in workers] == [1, 1, 1, 0]
    assert [host_of(limit) for limit in workers] == [3] * 4
    held.pop().success()
    workers.limits[3].acquire().success()
    for permit in held:
        permit.success()
    assert host_of(workers.limits[0]) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_call_holds_goes_back_however_it_ends():
    """Success, failure, a rejection further in, a dropped permit: each gives the host's permit back."""
    workers = Workers(2, 2)
    mine, other = workers
    mine.acquire().success()
    mine.acquire().failure(ValueError())
    mine.acquire().cancel()
    mine.acquire()  # dropped
    inner = bulkhead(1)
    with inner, pytest.raises(BulkheadFullError):
        pipeline(mine, inner).call(int)
    assert (mine.used, host_of(other)) == (0, 0)


def test_a_heavy_call_takes_all_of_its_permits_or_none():
    """A call of weight 3 that finds two of the host's permits takes neither."""
    workers = Workers(2, 4, weight=lambda weight: weight)
    mine, other = workers
    held = other.acquire(2)
    with pytest.raises(BulkheadFullError):
        mine.acquire(3)
    assert host_of(mine) == 2
    both = mine.acquire(2)
    assert host_of(mine) == 4
    both.success()
    held.success()
    with pytest.raises(BulkheadFullError) as heavy:
        mine.acquire(5)
    assert (heavy.value.reason, heavy.value.limit) == ("too_heavy", 4)


def test_a_dead_worker_gives_back_what_it_held():
    """What a dead worker held is free once it was found dead; what others hold stays theirs."""
    workers = Workers(2, 3)
    mine, dead = workers
    held = [mine.acquire(), dead.acquire(), dead.acquire()]
    assert not mine.try_acquire()
    workers.members[1].leave()
    again = [mine.acquire(), mine.acquire()]
    assert not mine.try_acquire()
    for permit in (held[0], *again):
        permit.success()
    assert host_of(mine) == 0


def test_permits_of_a_worker_that_was_taken_for_dead_are_not_given_back_twice():
    """A worker that lost its slot ends its calls: the permits that others have got meanwhile stay theirs."""
    workers = Workers(2, 1)
    mine, other = workers
    lost = mine.acquire()
    workers.members[0].leave()
    taken = other.acquire()
    lost.success()
    assert host_of(other) == 1
    assert not other.try_acquire()
    taken.success()


def test_without_a_slot_a_worker_counts_for_itself():
    """A process that gets no slot admits as if it were alone, and holds none of the host's permits."""
    workers = Workers(2, 2)
    alone, other = workers
    workers.members[0].leave()
    held = [alone.acquire(), alone.acquire()]
    assert not alone.try_acquire()
    assert (host_of(alone), host_of(other)) == (2, 0)
    held += [other.acquire(), other.acquire()]
    for permit in held:
        permit.success()
    assert (alone.used, host_of(other)) == (0, 0)


def test_calls_in_flight_keep_their_permits_when_a_policy_begins_to_share():
    """Calls from before end as ever; the host's permits are for those that come after."""
    limit = bulkhead(1)
    before = limit.acquire()
    region = Region.private()
    gate = limit._gate
    kind, stock, size = gate.cell_wanted()
    gate.share(region.cell(kind, "pool", stock, size))
    during = limit.acquire()
    assert (limit.used, host_of(limit)) == (2, 1)
    before.success()
    assert (limit.used, host_of(limit)) == (1, 1)
    gate.share(None)
    during.success()
    assert (limit.used, limit.available) == (0, 1)


# ---- the limit moves -------------------------------------------------------------------------------------------------


def test_a_resize_in_one_worker_is_the_hosts():
    """More permits are there for all; with fewer, calls that hold one keep it, and no call is admitted before."""
    workers = Workers(2, 2)
    mine, other = workers
    mine.resize(4)
    assert other.snapshot().limit == 4
    held = [other.acquire() for _ in range(4)]
    mine.resize(1)
    assert other.snapshot().limit == 1
    while len(held) > 1:
        held.pop().success()
        assert not other.try_acquire()
        assert not mine.try_acquire()
    held.pop().success()
    mine.acquire().success()


@pytest.mark.parametrize("limits", [(1,), (3, 1), (2, 1), (3, 2, 1)], ids=str)
def test_permits_above_a_limit_count_however_often_it_is_lowered(limits):
    """Of a limit that was lowered twice, those above the first of them were held by calls and counted by none."""
    workers = Workers(2, 4)
    mine, other = workers
    below = mine.acquire()
    held = [other.acquire() for _ in range(3)]
    for limit in limits:
        mine.resize(limit)
    below.success()
    while held:
        assert not mine.try_acquire()
        held.pop().success()
    mine.acquire().success()
    assert host_of(mine) == 0


def test_a_new_worker_does_not_undo_a_resize():
    """An operator has raised the limit; a worker that starts with the options of the program takes part in it."""
    workers = Workers(2, 2)
    workers.limits[0].resize(5)
    late = bulkhead(2)
    workers.limits.append(late)
    workers.members.append(workers.region.join())
    workers.share(2)
    late.reconfigure(max_queued=3, max_wait=1.0)
    assert [limit.snapshot().limit for limit in workers] == [5, 5, 5]


def test_a_waiting_call_that_became_too_heavy_is_rejected_in_its_own_worker(vt):
    """The limit falls below the weight of a call that waits in another worker: its worker rejects it in its time."""
    workers = Workers(2, 4, weight=lambda weight: weight, max_queued=5, max_wait=1.0)
    mine, other = workers
    held = other.acquire(2)

    async def main():
        async def heavy():
            with pytest.raises(BulkheadFullError) as rejected:
                await mine.aacquire(3)
            return rejected.value.reason

        async with anyio.create_task_group() as group:
            group.start_soon(heavy)
            await anyio.sleep(5 * MS)
            other.resize(2)
            held.success()

    vt.run(main)
    assert vt.now == pytest.approx(1.0)


def test_closing_one_worker_closes_no_other():
    """A worker that shuts down rejects its own calls; those of the host go on."""
    mine, other = Workers(2, 2)
    mine.close()
    with pytest.raises(BulkheadFullError) as closed:
        mine.acquire()
    assert closed.value.reason == "closed"
    other.acquire().success()
    assert not mine.health().ready
    assert other.health().ready


def test_in_shadow_mode_calls_beyond_the_hosts_limit_pass():
    """enforce=False: a call that finds the host's permits taken passes, holds none, and is counted."""
    mine, other = Workers(2, 1, enforce=False)
    held = other.acquire()
    mine.acquire().success()
    assert mine.snapshot().would_reject == 1
    assert host_of(mine) == 1
    held.success()


# ---- waiting ---------------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_waiting_call_gets_what_another_worker_gives_back(vt, backend):
    """No wake-up passes between processes: the first in the queue asks again, at most every 5 ms."""
    mine, other = Workers(2, 1, max_queued=10, max_wait=1.0)
    waited = []

    async def wait():
        begun = vt.now
        async with mine:
            waited.append(vt.now - begun)

    async def main():
        for seconds in (0.0001, 0.0007, 0.003, 0.05, 0.5):
            async with anyio.create_task_group() as group:
                group.start_soon(hold, other, seconds)
                await anyio.lowlevel.checkpoint()
                while not other.used:
                    await anyio.lowlevel.checkpoint()
                group.start_soon(wait)

    vt.run(main, backend=backend)
    for seconds, wait_s in zip((0.0001, 0.0007, 0.003, 0.05, 0.5), waited, strict=True):
        assert seconds <= wait_s <= min(2.5 * seconds + MS, seconds + 5.1 * MS)


@BACKENDS
def test_calls_of_one_worker_are_served_in_order(vt, backend):
    """Whoever gives the permit back, this worker or another, the queue keeps its order."""
    mine, other = Workers(2, 2, max_queued=20, max_wait=5.0)
    served: list[int] = []

    async def call(number):
        async with mine:
            served.append(number)
            await anyio.sleep(3 * MS)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(hold, other, 10 * MS)
            await anyio.sleep(MS)
            for number in range(20):
                group.start_soon(call, number)
                await anyio.sleep(0.1 * MS)

    vt.run(main, backend=backend)
    order = [(number - place) for place, number in enumerate(served)]
    assert max(order) <= 1  # tasks that are served at one moment may run in any order
    assert min(order) >= -1


@BACKENDS
def test_a_call_waits_no_longer_than_its_limit(vt, backend):
    """Asking again does not prolong the wait: max_wait ends it, and the rejection shows it."""
    mine, other = Workers(2, 1, max_queued=1, max_wait=0.02)
    held = other.acquire()
    reasons = []

    async def main():
        with pytest.raises(BulkheadFullError) as rejected:
            await mine.aacquire()
        reasons.append((rejected.value.reason, rejected.value.measured, rejected.value.limit))

    vt.run(main, backend=backend)
    assert reasons == [("wait", pytest.approx(0.02), 0.02)]
    assert vt.now == pytest.approx(0.02)
    held.success()


def test_a_thread_waits_for_another_worker(vt):
    """A thread that waits without an event loop asks again too."""
    mine, other = Workers(2, 1, max_queued=1, max_wait=1.0)
    held = other.acquire()
    waiting = threading.Thread(target=lambda: mine.acquire().success())
    waiting.start()
    while not mine.snapshot().queued:
        pass
    held.success()
    for _ in range(100):
        vt.advance(MS)
        if not mine.snapshot().queued:
            break
    waiting.join()
    assert mine.snapshot().successes == 1


@BACKENDS
def test_a_worker_with_all_permits_leaves_their_share_to_the_calls_of_others(vt, backend):
    """
    A worker whose queue is never empty would pass each of its permits on to its own queue, and the others get none.

    Each takes what others have waited for down to its share, and no permit lies idle for it.
    """
    workers = Workers(3, 6, max_queued=1000, max_wait=60.0)
    served = [0, 0, 0]
    most = []

    async def call(number):
        async with workers.limits[number]:
            most.append(host_of(workers.limits[number]))
            await anyio.sleep(10 * MS)
        served[number] += 1

    async def main():
        async with anyio.create_task_group() as group:
            for number in (0, 1, 2):  # the first takes all
                for _ in range(300):
                    group.start_soon(call, number)
                await anyio.sleep(MS)
            await anyio.sleep(0.5)
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    assert max(most) == 6
    assert min(served) > 0.2 * sum(served)  # about a third each; without the rule the last gets next to nothing
    assert sum(served) > 0.95 * 6 * 0.5 / 0.01  # of what six permits can do


@BACKENDS
def test_cancelled_calls_leave_no_permit_behind(vt, backend):
    """Calls that are cancelled while they wait, or just as they were served, give everything back; others go on."""
    mine, other = Workers(2, 2, max_queued=50, max_wait=60.0)

    async def main():
        async with anyio.create_task_group() as group:
            for limit in (other, mine):
                for _ in range(20):
                    group.start_soon(hold, limit, 7 * MS)
            await anyio.sleep(9 * MS)
            group.cancel_scope.cancel()
        async with mine, other:
            assert host_of(mine) == 2

    vt.run(main, backend=backend)
    assert (mine.used, other.used, host_of(mine)) == (0, 0, 0)
    assert mine._gate.counters()["queued"] == 0


@BACKENDS
def test_map_shares_the_permits(vt, backend):
    """`map` of two workers runs as many calls at a time as the host has permits."""
    workers = Workers(2, 3, max_queued=5, max_wait=1.0)
    running = most = 0

    async def work(item):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(10 * MS)
        running -= 1
        return item

    async def main():
        done = []

        async def part(limit):
            done.append(await limit.map(work, range(30)))

        async with anyio.create_task_group() as group:
            for limit in workers:
                group.start_soon(part, limit)
        return done

    assert vt.run(main, backend=backend) == [list(range(30))] * 2
    assert most == 3
    assert vt.now < 0.25  # 60 calls of 10 ms, three at a time: 0.2 s


def test_no_wait_ends_a_wait_that_only_asks():
    """testing.no_wait(): a wait for another worker's permit ends as if its time had passed."""
    mine, other = Workers(2, 1, max_queued=5, max_wait=60.0)
    held = other.acquire()
    with no_wait(), pytest.raises(BulkheadFullError) as rejected:
        mine.acquire()
    assert rejected.value.reason == "wait"
    held.success()


@BACKENDS
def test_drained_is_what_this_worker_holds(vt, backend):
    """A worker has drained when its own calls have ended, whatever the others hold."""
    mine, other = Workers(2, 4)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(hold, other, 1.0)
            group.start_soon(hold, mine, 0.2)
            await anyio.sleep(0.1)
            assert await mine.adrain(5.0)
            assert vt.now == pytest.approx(0.2, abs=0.01)

    vt.run(main, backend=backend)


# ---- a worker alone --------------------------------------------------------------------------------------------------


class SharedMachine(BulkheadMachine):
    """A worker that shares with no other behaves as the oracle of a bulkhead that does not share."""

    def _made(self, *args: Any, **options: Any) -> Bulkhead:
        limit = super()._made(*args, **options)
        gate = limit._gate
        kind, stock, size = gate.cell_wanted()
        gate.share(Region.private().cell(kind, "pool", stock, size))
        return limit


TestSharedMachine = SharedMachine.TestCase
