"""What a load shedder learns of the server behind it: when workers are lost, and their callers' calls time out."""

from __future__ import annotations

import contextlib
import math
import random

import anyio
import pytest

from resilio import CallTimeoutError, DeadlineExceededError, OverloadedError, deadline, load_shed, timeout
from resilio.testing import seeded

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Server:
    """Workers with a queue that works on for callers who have gone; some of them are lost at a time."""

    def __init__(self, vt, workers, mean, seed):
        self.vt, self.workers, self.mean = vt, workers, mean
        self.draw = random.Random(seed)
        self.give, self.take = anyio.create_memory_object_stream(math.inf)
        self.ends = []

    async def work(self, number):
        while number < self.workers:
            done = await self.take.receive()
            await anyio.sleep(self.draw.expovariate(1 / self.mean))
            done.set()

    async def serve(self):
        done = anyio.Event()
        await self.give.send(done)
        await done.wait()


@pytest.mark.real(2.5)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_shedder_does_not_freeze_when_workers_are_lost(vt, seed):
    """Twelve of a hundred workers are left: timeouts shrink the limit, and what twelve can do is served.

    The median of successes is then over half of the timeout; failures up to twice it passed for quick, for good. All
    is drawn from the seed. trio draws the order of tasks that are ready from a source of its own, anew each time: it
    made another load of each run.
    """
    server, served, start = Server(vt, 100, 0.1, seed), [], []
    with seeded(seed):
        guarded = load_shed()(timeout(1.0)(server.serve))

    async def one():
        try:
            await guarded()
        except (OverloadedError, CallTimeoutError):
            return
        served.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(server.work, number)
            start.append(vt.now)
            while vt.now < start[0] + 25:
                if vt.now > start[0] + 5:
                    server.workers = 12
                group.start_soon(one)
                await anyio.sleep(server.draw.expovariate(800))
            group.cancel_scope.cancel()
        server.give.close()
        server.take.close()

    with seeded(seed):
        vt.run(main)
    # 1.01 and 0.91 of what twelve workers can do
    assert sum(at > start[0] + 17 for at in served) > 0.5 * 8 * 120


def test_failures_that_take_as_long_as_successes_shrink_nothing(vt):
    """Two of three calls fail, by what they ask for and after the same time as the others: that is no sign of load."""
    shed = load_shed()

    @shed
    async def serve(number):
        await anyio.sleep(0.1)
        if number % 3:
            raise ValueError

    async def one(number):
        with contextlib.suppress(ValueError):
            await serve(number)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(3000):
                group.start_soon(one, number)
                await anyio.sleep(0.01)

    vt.run(main)
    assert shed.limit >= 20


class UpstreamError(Exception):
    """What a dependency that is down makes of a request."""


async def at_a_time(serve, calls, limit, seconds, *, fails=False):
    """Make so many calls with a deadline of 2 s, at most *limit* at a time; return the number of answers."""
    turns, answered = anyio.Semaphore(limit), []

    async def one():
        async with turns:
            with contextlib.suppress(UpstreamError, OverloadedError, DeadlineExceededError), deadline(2.0):
                await serve(seconds() if callable(seconds) else seconds, fails)
                answered.append(True)

    async with anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(one)
    return len(answered)


def waiting_for_a_dependency(shed):
    """Return a handler of a service that only waits for its dependency."""

    @shed
    async def serve(seconds, fails):
        await anyio.sleep(seconds)
        if fails:
            raise UpstreamError

    return serve


@BACKENDS
@pytest.mark.parametrize("usual", [0.01, 0.5])
def test_slow_failures_of_few_calls_do_not_lower_the_limit(vt, backend, usual):
    """
    Sixty failures of 1.2 s, ten at a time, left a limit of 1 in an idle service: 385 of the next 600 calls were late.

    Nothing queued, and no call had been held back by the limit of 20.
    """
    shed = load_shed()
    serve = waiting_for_a_dependency(shed)

    async def main():
        assert await at_a_time(serve, 50, 5, usual) == 50
        assert await at_a_time(serve, 60, 10, 1.2, fails=True) == 0
        assert shed.limit >= 20
        assert await at_a_time(serve, 600, 10, 0.5) == 600

    vt.run(main, backend=backend)


@BACKENDS
def test_a_limit_that_fell_without_an_answer_rises_with_the_first(vt, backend):
    """
    Thousands of failures at a limit that is reached may be a server's that works for no caller: the limit falls to 1.

    The dependency is back: within ten answers as many calls are served as before. It took 407 rejections.
    """
    shed, draw = load_shed(), random.Random(1)
    serve = waiting_for_a_dependency(shed)

    async def main():
        await at_a_time(serve, 500, 15, lambda: draw.expovariate(100))
        await at_a_time(serve, 3000, 25, lambda: draw.expovariate(1 / 1.2), fails=True)
        assert shed.limit < 8
        await at_a_time(serve, 60, 10, 0.5)
        assert shed.limit >= 10
        assert await at_a_time(serve, 600, 10, 0.5) == 600

    vt.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize(("failing", "takes"), [(0.5, 1.2), (0.3, 0.3)])
def test_slow_failures_beside_quick_answers_reject_no_call(vt, backend, failing, takes):
    """A part of the calls fails slowly, the others are as quick as ever: up to a third of these were rejected."""
    shed, draw, answered = load_shed(), random.Random(1), []
    serve = waiting_for_a_dependency(shed)

    async def one(fails):
        with contextlib.suppress(UpstreamError, OverloadedError, DeadlineExceededError), deadline(2.0):
            await serve(takes if fails else 0.02, fails)
            answered.append(fails)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(4000):
                group.start_soon(one, number >= 1000 and draw.random() < failing)
                await anyio.sleep(draw.expovariate(100))

    vt.run(main, backend=backend)
    good = 4000 - round(3000 * failing)
    assert len(answered) >= 0.97 * good


@BACKENDS
def test_a_shedder_serves_all_when_what_it_waits_for_becomes_slow(vt, backend):
    """A dependency goes from 20 ms to 2 s: nothing queues, so no call is rejected.

    A limit that is learnt from latency alone took the slow answers for a queue, and served a quarter of the calls.
    """
    shed, slow, answered = load_shed(), [False], []

    @shed
    async def serve():
        await anyio.sleep(2.0 if slow[0] else 0.02)

    async def one():
        with contextlib.suppress(OverloadedError, DeadlineExceededError), deadline(10.0):
            await serve()
            answered.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(1600):
                slow[0] = number >= 400
                group.start_soon(one)
                await anyio.sleep(0.025)

    vt.run(main, backend=backend)
    assert len(answered) >= 0.97 * 1600
    assert shed.limit >= 80


@BACKENDS
def test_a_cold_shedder_lets_a_large_server_work(vt, backend):
    """Two hundred workers, load 0.8 from the first call on: the limit doubles, and all are answered."""
    server, answered = Server(vt, 200, 0.1, 1), []
    guarded = load_shed()(server.serve)

    async def one():
        with contextlib.suppress(OverloadedError, DeadlineExceededError), deadline(1.0):
            await guarded()
            answered.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(server.work, number)
            for _ in range(4000):
                group.start_soon(one)
                await anyio.sleep(server.draw.expovariate(1600))
            await anyio.sleep(1.0)
            group.cancel_scope.cancel()
        server.give.close()
        server.take.close()

    vt.run(main, backend=backend)
    assert len(answered) >= 0.97 * 4000


@BACKENDS
def test_a_cold_shedder_sheds_where_nothing_is_ever_answered(vt, backend):
    """A dependency that hangs from the first call on: after one deadline most calls are rejected at once.

    While its limit was to rise, calls queued without a bound: a thousand a second waited for their deadlines, for good.
    """
    shed, at_once = load_shed(), []
    hanging = shed(anyio.sleep_forever)

    async def one():
        began = vt.now
        try:
            async with deadline(2.0):
                await hanging()
        except OverloadedError:
            if vt.now - began < 0.1 and began > 2.5:
                at_once.append(vt.now)
        except DeadlineExceededError:
            return

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(5000):
                group.start_soon(one)
                await anyio.sleep(0.001)

    vt.run(main, backend=backend)
    assert len(at_once) >= 0.9 * 2500
    assert shed.snapshot().inflight == shed.snapshot().queued == 0


def test_patience_learnt_from_lost_answers_makes_an_overload_last(vt):
    """
    Callers without a deadline have the patience that lost answers show: seconds of overload are no burst.

    So a caller with a deadline takes the place of another. A burst would have had room for both.
    """
    shed = load_shed()
    serve = waiting_for_a_dependency(shed)

    async def one(seconds, fails=False):
        with contextlib.suppress(UpstreamError, OverloadedError):
            await serve(seconds, fails)

    async def timely():
        with deadline(30.0):
            await one(0.5)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(one, 0.1)
                await anyio.sleep(0.02)
            for number in range(3000):  # six seconds, and answers are lost after half of one
                group.start_soon(one, 0.5, number % 2 == 0)
                await anyio.sleep(0.002)
            await anyio.sleep(0.001)  # between two ends
            while shed.snapshot().queued < shed._gate.room:
                group.start_soon(one, 0.5)
                await anyio.lowlevel.checkpoint()
            assert shed.snapshot().state == "overloaded"
            full, displaced = shed.snapshot().queued, shed.rejected_by_priority["standard", "displaced"]
            group.start_soon(timely)
            await anyio.sleep(1e-6)
            assert shed.snapshot().queued == full
            assert shed.rejected_by_priority["standard", "displaced"] == displaced + 1

    vt.run(main)


def test_a_cut_without_a_queue_is_undone(vt):
    """
    A dependency takes nearly as long as callers wait: late calls look like a queue, and the limit is cut.

    Answers then fall as the calls in flight do: nothing has queued. 62 % are answered, 51 % where cuts stay.
    """
    answered = 0
    for seed in range(8):
        shed, draw, slow = load_shed(), random.Random(seed), [False]
        serve = waiting_for_a_dependency(shed)

        async def one(serve=serve, draw=draw, slow=slow):
            nonlocal answered
            with contextlib.suppress(OverloadedError, DeadlineExceededError), deadline(2.0):
                await serve(draw.uniform(1.6, 1.9) if slow[0] else 0.02, False)
                answered += slow[0]

        async def main(draw=draw, slow=slow, one=one):
            async with anyio.create_task_group() as group:
                for i in range(800):
                    slow[0] = i >= 200
                    group.start_soon(one)
                    await anyio.sleep(draw.expovariate(20))

        vt.run(main)
    assert answered >= 0.56 * 8 * 600
