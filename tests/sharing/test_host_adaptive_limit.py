"""An adaptive limit of the host: its workers learn one limit together, from the calls of all of them."""

from __future__ import annotations

import asyncio
import functools
import operator
import random
import statistics
from typing import Any

import anyio
import pytest
from policies.test_adaptive_limit_machine import AdaptiveLimitMachine

from resilio import adaptive_limit, events
from resilio._native.shared import Region
from resilio._policies.adaptive_limit import AdaptiveLimit
from resilio.errors import OverloadedError, RejectedError

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
MS = 0.001


class Workers:
    """Workers of one host in one process: each has a limit of its own, and all of them one cell."""

    def __init__(self, many: int, **options: Any) -> None:
        self.region = Region.private()
        self.options = options
        self.members: list[Any] = []
        self.limits: list[AdaptiveLimit] = []
        for _ in range(many):
            self.add()

    def add(self) -> AdaptiveLimit:
        self.members.append(self.region.join() if self.members else self.region.member)
        limit = adaptive_limit(**self.options)
        share(limit, self.region, self.members[-1])
        self.limits.append(limit)
        return limit

    def __iter__(self) -> Any:
        return iter(self.limits)


def share(limit: AdaptiveLimit, region: Region, member: Any = None) -> None:
    kind, stock, size = limit._gate.cell_wanted()
    limit._gate.share(region.cell(kind, "upstream", stock, size, member))


def host_of(limit: AdaptiveLimit) -> int:
    return limit._gate.used_by_host


def fail(limit: AdaptiveLimit) -> None:
    with pytest.raises(TimeoutError):
        limit.call(_time_out)


def _time_out() -> None:
    raise TimeoutError


# ---- one limit -------------------------------------------------------------------------------------------------------


def test_all_workers_together_have_the_limit():
    """A limit of 3 of four workers admits three calls; a rejection shows the host's numbers."""
    workers = Workers(4, start=3, law="aimd")
    held = [limit.acquire() for limit in list(workers)[:3]]
    with pytest.raises(OverloadedError) as full:
        workers.limits[3].acquire()
    assert (full.value.measured, full.value.limit) == (3, 3)
    assert [limit.used for limit in workers] == [1, 1, 1, 0]
    assert [host_of(limit) for limit in workers] == [3] * 4
    for permit in held:
        permit.success()
    assert host_of(workers.limits[0]) == 0


def test_what_one_worker_learns_all_obey(vt):
    """Drops in one worker shrink the limit of the others, which have made no call."""
    workers = Workers(3, start=40, law="aimd")
    mine, other, idle = workers
    for _ in range(200):
        fail(mine)
        vt.advance(2 * MS)
    assert mine.limit < 20
    assert other.limit == idle.limit == mine.limit
    assert other.snapshot().learned == mine.snapshot().learned


def test_a_worker_that_starts_late_begins_with_what_is_known(vt):
    """A new worker, or one that takes the place of a dead one, does not begin at `start`."""
    workers = Workers(2, start=40, law="aimd")
    mine, dead = workers
    for _ in range(200):
        fail(dead)
        vt.advance(2 * MS)
    learned = mine.snapshot().learned
    assert learned < 20
    workers.members[1].leave()
    late = workers.add()
    assert late.snapshot().learned == learned
    fail(late)
    vt.advance(2 * MS)
    assert late.limit <= learned  # it goes on from there
    assert mine.limit == late.limit


@pytest.mark.parametrize("calls", [1, 31, 32, 45, 100])
@pytest.mark.parametrize("what", ["stays", "dies", "resets"])
def test_a_worker_that_is_alone_is_ahead_of_what_it_has_published(vt, calls, what):
    """
    It learns at each sample and publishes 32 together: another that comes, or takes its place, has learned the same.

    Each of its samples cost a copy of the whole law: 5.5 times the overhead of a limit of the process.
    """
    lone, workers = adaptive_limit(start=40, law="aimd"), Workers(1, start=40, law="aimd")
    mine = workers.limits[0]
    for number in range(calls):
        for limit in (lone, mine):
            fail(limit) if number % 3 else limit.call(int)
        vt.advance(MS // 100)
        assert mine.limit == int(lone.limit), "obeyed at once"
        assert mine.snapshot().learned == lone.snapshot().learned
    if what == "dies":
        workers.members[0].leave()
    elif what == "resets":
        lone.reset()
        mine.reset()
    late = workers.add()
    assert late.limit == int(lone.limit)
    vt.advance(2 * MS)
    for limit in (lone, late):
        fail(limit)
    assert late.snapshot().learned == lone.snapshot().learned


def test_a_worker_whose_law_was_learned_on_by_another_is_not_ahead(vt):
    """While it was alone it was ahead; what others have learned since then it takes over, and loses none of it."""
    workers = Workers(1, start=40, law="aimd")
    mine = workers.limits[0]
    fail(mine)
    other = workers.add()
    for _ in range(100):
        fail(other)
        vt.advance(2 * MS)
    learned = other.snapshot().learned
    workers.members[1].leave()
    vt.advance(2 * MS)
    mine.call(int)
    assert learned < 32, "the first failure alone makes it 36"
    assert mine.snapshot().learned == pytest.approx(learned, abs=1.0)


def test_samples_of_all_workers_are_learned_in_the_order_of_their_ends(vt):
    """Eight workers with an eighth of the calls each show the law what one worker with all of them would."""
    lone = adaptive_limit(start=10, law="aimd")
    workers = Workers(8, start=10, law="aimd")
    rnd, held = random.Random(7), []
    for number in range(3000):
        answers = [lone.try_acquire(), workers.limits[number % 8].try_acquire()]
        held.append([answer for answer in answers if answer])
        vt.advance(2 * MS)
        if len(held) > 8:
            drops = rnd.random() < 0.02
            for permit in held.pop(0):
                permit.failure(TimeoutError()) if drops else permit.success()
    assert workers.limits[0].snapshot().learned == pytest.approx(lone.snapshot().learned, rel=0.1)
    for permit in functools.reduce(operator.iadd, held, []):
        permit.success()


def test_a_ring_that_overflows_loses_samples_and_blocks_no_call(vt):
    """A worker writes until its ring is full, and goes on; what it has lost is a part of many samples."""
    workers = Workers(2, start=40, law="aimd")
    mine, _ = workers
    for _ in range(500):  # at one moment: a turn each 8 samples, none of them waits
        fail(mine)
    assert mine.snapshot().failures == 500
    assert mine.limit < 40


def test_reset_is_for_all_workers(vt):
    """Forgotten by one, forgotten by all; calls that began before teach nothing."""
    workers = Workers(2, start=30, law="aimd")
    mine, other = workers
    for _ in range(100):
        fail(mine)
        vt.advance(2 * MS)
    before = other.acquire()
    mine.reset()
    assert mine.limit == other.limit == 30
    before.failure(TimeoutError())
    vt.advance(2 * MS)
    assert mine.limit == 30


def test_changed_bounds_are_the_hosts(vt):
    """A ceiling that one worker changes holds for all at the next turn; a worker that starts does not undo it."""
    workers = Workers(2, start=30, law="aimd")
    mine, other = workers
    mine.reconfigure(ceiling=5)
    other.acquire().success()
    vt.advance(2 * MS)
    other.acquire().success()
    assert mine.limit == other.limit == 5
    late = workers.add()
    late.acquire().success()
    assert late.limit == 5


def test_a_move_of_the_limit_is_reported_in_each_worker(vt):
    """Listeners of a worker hear of a limit that fell in the turn of another."""
    workers = Workers(2, start=40, law="aimd")
    mine, other = workers
    moved: list[list[Any]] = [[], []]
    for limit, heard in zip(workers, moved, strict=True):
        limit.on_event(heard.append, kinds=[events.LimitChanged])
    for _ in range(100):
        fail(mine)
        vt.advance(2 * MS)
    other.acquire().success()
    for heard in moved:
        assert heard
        assert all(event.new < event.old for event in heard)


# ---- permits ---------------------------------------------------------------------------------------------------------


def test_a_dead_worker_gives_back_what_it_held(vt):
    """What a dead worker held is free, and the law does not count it any more."""
    workers = Workers(2, start=4, law="aimd", ceiling=4)
    mine, dead = workers
    dying = [dead.acquire() for _ in range(3)]
    workers.members[1].leave()
    held = [mine.acquire() for _ in range(4)]
    assert not mine.try_acquire()
    for permit in held:
        permit.success()
    vt.advance(0.2)
    for _ in range(3):
        mine.acquire().success()
        vt.advance(0.2)
    alone = mine.acquire()
    assert host_of(mine) == 1
    for permit in (alone, *dying):
        permit.success()
    assert host_of(mine) == 0


def test_without_a_slot_a_worker_goes_on_alone(vt):
    """A process that has lost its slot learns for itself, from what the host had learned."""
    workers = Workers(2, start=40, law="aimd")
    mine, other = workers
    for _ in range(100):
        fail(mine)
        vt.advance(2 * MS)
    learned = mine.limit
    workers.members[0].leave()
    held = [mine.acquire() for _ in range(learned)]
    assert not mine.try_acquire()
    assert host_of(other) == 0
    for permit in held:
        permit.failure(TimeoutError())
    assert mine.limit < learned == other.limit


def test_in_shadow_mode_the_law_sees_the_calls_that_pass(vt):
    """enforce=False: calls beyond the limit pass in every worker, and count as in flight for the law."""
    workers = Workers(2, start=1, law="aimd", enforce=False)
    mine, other = workers
    held = [mine.acquire(), mine.acquire(), other.acquire()]
    assert (mine.snapshot().passing, other.snapshot().passing) == (1, 1)
    assert host_of(mine) == 1
    for permit in held:
        permit.success()
    assert (mine.snapshot().passing, other.snapshot().passing, host_of(mine)) == (0, 0, 0)


@BACKENDS
def test_a_waiting_call_gets_what_another_worker_gives_back(vt, backend):
    """The first in the queue asks again, and a limit that rises elsewhere admits it."""
    workers = Workers(2, start=1, law="aimd", ceiling=1, max_queued=10, max_wait=1.0)
    mine, other = workers
    waited = []

    async def hold():
        async with other:
            await anyio.sleep(20 * MS)

    async def wait():
        begun = vt.now
        async with mine:
            waited.append(vt.now - begun)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await anyio.sleep(MS)
            for _ in range(3):
                group.start_soon(wait)

    vt.run(main, backend=backend)
    assert len(waited) == 3
    assert 18 * MS <= min(waited) <= max(waited) <= 25 * MS
    assert host_of(mine) == 0


@BACKENDS
def test_cancelled_calls_leave_no_permit_behind(vt, backend):
    """Calls that are cancelled while they wait, or just as they were served, give everything back."""
    workers = Workers(2, start=2, law="aimd", ceiling=2, max_queued=50, max_wait=60.0)

    async def hold(limit):
        async with limit:
            await anyio.sleep(7 * MS)

    async def main():
        async with anyio.create_task_group() as group:
            for limit in workers:
                for _ in range(20):
                    group.start_soon(hold, limit)
            await anyio.sleep(9 * MS)
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    assert [limit.used for limit in workers] == [0, 0]
    assert host_of(workers.limits[0]) == 0


# ---- overload --------------------------------------------------------------------------------------------------------


class Server:
    """Ten workers behind a fifo queue; a call takes 10 ms of one of them in the mean, even if its caller has left."""

    def __init__(self, rnd: random.Random) -> None:
        self.workers = asyncio.Semaphore(10)
        self.rnd = rnd

    async def answer(self) -> None:
        await asyncio.shield(self._work())

    async def _work(self) -> None:
        async with self.workers:
            await asyncio.sleep(self.rnd.expovariate(1 / 0.01))


def served(vt: Any, limits: list[AdaptiveLimit], rate: float) -> tuple[float, float]:
    """Return the share of the server's capacity that calls get within 0.1 s, and their median time, after 5 s."""
    rnd, seconds = random.Random(1), 8.0
    times: list[float] = []

    async def call(limit, server, begun, counts):
        try:
            async with limit, asyncio.timeout(0.1):
                await server.answer()
        except (RejectedError, TimeoutError):
            return
        if counts:
            times.append(vt.now - begun)

    async def main():
        server, begun, tasks = Server(rnd), vt.now, set()
        while vt.now < begun + 5 + seconds:
            await asyncio.sleep(rnd.expovariate(rate))
            task = asyncio.ensure_future(call(rnd.choice(limits), server, vt.now, vt.now > begun + 5))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    vt.run(main)
    return len(times) / seconds / 1000, statistics.median(times)


@pytest.mark.real(2.0)
@pytest.mark.once
def test_eight_workers_together_keep_the_queue_of_the_server_short(vt):
    """
    Eight processes before one server, at twice its capacity: what one limit gave up, the seven others took.

    With a limit each their calls take most of the deadline, all of it in a longer run; with one limit of the host they
    take twice the time of a free server, and the server does all that it can.
    """
    _, apart = served(vt, [adaptive_limit() for _ in range(8)], 2000)
    share, together = served(vt, list(Workers(8)), 2000)
    assert share > 0.95
    assert together < 0.03
    assert apart > 2 * together


# ---- a worker alone --------------------------------------------------------------------------------------------------


class SharedMachine(AdaptiveLimitMachine):
    """A worker that shares with no other behaves as the oracle of a limit that does not share."""

    def _made(self, **options: Any) -> AdaptiveLimit:
        limit = super()._made(**options)
        share(limit, Region.private())
        return limit


TestSharedMachine = SharedMachine.TestCase
