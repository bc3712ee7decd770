"""The rate limit's numbered scenarios: what others got wrong, one promise each."""

from __future__ import annotations

import asyncio
import math
import random
import threading

import anyio
import anyio.lowlevel
import pytest

from resilio import Rate, bulkhead, circuit_breaker, current, pipeline, rate_limit
from resilio._native import clock
from resilio.errors import BulkheadFullError, CircuitOpenError, RateLimitedError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def drained(*rates, **options):
    """A limit whose buckets are empty."""
    limit = rate_limit(*rates, **options)
    while limit.try_acquire():
        pass
    return limit


# ---- RL-01: a slow rate admits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["0.5/s", "1/min", "10/h", "1/d"])
def test_rl01_a_rate_below_one_a_second_admits(vt, rate):
    """RL-01: a bucket holds at least one call, however slow it fills."""
    limit = rate_limit(rate)
    for _ in range(int(limit.available["requests"])):
        assert limit.try_acquire()
    rejection = limit.try_acquire()
    assert rejection.reason == "rate"
    vt.advance(rejection.retry_after)
    assert limit.try_acquire()


def test_rl01_a_bucket_holds_at_least_what_a_call_costs(vt):
    """RL-01: the burst grows with a constant cost, and one that is set too low is rejected at construction."""
    assert rate_limit("1/s", cost=5).try_acquire()
    with pytest.raises(ValueError, match=r"burst must be at least cost=5.*not 2"):
        rate_limit("1/s", cost=5, burst=2)
    with pytest.raises(ValueError, match=r"burst must be at least cost=5.*not 2"):
        Rate("1/s", cost=5, burst=2)


# ---- RL-02: nobody starves -------------------------------------------------------------------------------------------


@BACKENDS
def test_rl02_a_large_cost_under_steady_small_traffic_is_served(vt, backend):
    """RL-02: small calls that keep coming do not take what a large one waits for."""
    limit = rate_limit("10/s", cost=lambda tokens=1: tokens, max_wait=60, max_queued=1000)
    served = []

    async def call(tokens):
        async with limit.permit(tokens):
            served.append((tokens, vt.now))

    async def traffic(group):
        for _ in range(100):
            group.start_soon(call, 1)
            await anyio.sleep(0.05)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(traffic, group)
            await anyio.sleep(2.01)
            assert limit.available["requests"] < 1
            ahead = limit.snapshot().queued
            group.start_soon(call, 10)
            await anyio.lowlevel.checkpoint()
            position = ahead + 1
            await anyio.sleep(60)
        large = [at for tokens, at in served if tokens == 10]
        assert len(large) == 1
        # It was served in its turn: after those before it, and a second for its own ten tokens.
        assert large[0] == pytest.approx(2 + position * 0.1 + 1, abs=0.2)
        assert len(served) == 101

    vt.run(main, backend=backend)


@BACKENDS
def test_rl02_nobody_barges(vt, backend):
    """RL-02: while somebody queues a newcomer is not admitted, though its few tokens would be there."""
    limit = drained("10/s", burst=10, cost=lambda tokens=1: tokens, max_wait=60)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(limit.aacquire, 10)
            await anyio.sleep(0.5)
            assert limit.available["requests"] == 5
            rejection = limit.try_acquire(1)
            assert not rejection
            assert rejection.retry_after == pytest.approx(0.6)

    vt.run(main, backend=backend)


# ---- RL-03: what passes in a window ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rl03_no_window_lets_more_pass_than_burst_and_rate(vt, seed):
    """RL-03: in any time t at most burst + rate * t tokens pass, whatever the traffic."""
    rng = random.Random(seed)
    limit = rate_limit("20/s", burst=7)
    passed = []
    for _ in range(600):
        vt.advance(rng.choice([0.0, 0.001, 0.02, 0.3]))
        if limit.try_acquire():
            passed.append(vt.now)
    assert len(passed) > 100
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= 7 + 20 * (passed[last] - passed[first]) + 1e-6


def test_rl03_the_default_burst_is_a_seconds_worth(vt):
    """RL-03: after a pause a second's worth passes at once, and then the rate: twice as many in the first second."""
    limit = rate_limit("10/s")
    count = 0
    for _ in range(1000):
        count += bool(limit.try_acquire())
        vt.advance(0.001)
    assert count == 19


@BACKENDS
def test_rl03_a_burst_of_one_spaces_calls_strictly(vt, backend):
    """RL-03: with burst=1 no two calls are closer than the rate says."""
    limit = rate_limit("10/s", burst=1, max_wait=10)
    times = []

    async def call():
        async with limit:
            times.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call)

    vt.run(main, backend=backend)
    assert times == pytest.approx([index / 10 for index in range(10)])


# ---- RL-04: who leaves the queue -------------------------------------------------------------------------------------


@BACKENDS
def test_rl04_a_cancelled_waiter_takes_no_tokens_and_those_behind_move_up(vt, backend):
    """RL-04: a waiter that gives up has taken nothing; who waits behind it is served that much earlier."""
    limit = drained("10/s", cost=lambda tokens=1: tokens, max_wait=60)
    served = {}

    async def call(name, tokens, scope):
        with scope:
            async with limit.permit(tokens):
                served[name] = vt.now

    async def main():
        scopes = {name: anyio.CancelScope() for name in "abc"}
        async with anyio.create_task_group() as group:
            for name, tokens in (("a", 5), ("b", 10), ("c", 1)):
                group.start_soon(call, name, tokens, scopes[name])
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.2)
            assert limit.peek() == pytest.approx(1.5)
            scopes["b"].cancel()
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            assert limit.peek() == pytest.approx(0.5)

    vt.run(main, backend=backend)
    assert served == {"a": pytest.approx(0.5), "c": pytest.approx(0.6)}
    assert_no_leaks()


@BACKENDS
def test_rl04_a_cancelled_head_lets_the_next_one_go(vt, backend):
    """RL-04: a large call at the head gives up: the small one behind it, whose token is there, is served at once."""
    limit = drained("10/s", cost=lambda tokens=1: tokens, max_wait=60)
    served = []

    async def main():
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()

            async def large():
                with scope:
                    await limit.aacquire(10)

            async def small():
                await limit.aacquire(1)
                served.append(vt.now)

            group.start_soon(large)
            await anyio.sleep(0.05)
            group.start_soon(small)
            await anyio.sleep(0.45)
            scope.cancel()

    vt.run(main, backend=backend)
    assert served == [pytest.approx(0.5)]


def test_rl04_a_waiter_cancelled_in_the_tick_of_its_grant_gives_the_tokens_back(vt):
    """RL-04: tokens are granted and the waiter is cancelled before its task has run: they go to the next one."""
    limit = drained("1/h", burst=3, max_wait=36000)

    async def main():
        first, second = (asyncio.ensure_future(limit.aacquire()) for _ in range(2))
        await asyncio.sleep(0)
        limit._gate.adjust("requests", -1)
        assert limit.available["requests"] == 0, "granted ..."
        assert limit.snapshot().inflight == 0, "... and not yet taken: this is the race"
        first.cancel()
        await asyncio.wait([first, second], timeout=1)
        assert first.cancelled()
        second.result().success()

    vt.run(main)
    assert limit.available["requests"] == pytest.approx(0, abs=0.001)


def test_rl04_a_cost_above_the_capacity_is_rejected_at_once(vt):
    """RL-04: a call that costs more than burst could never pass: a reason of its own, and no retry_after."""
    limit = rate_limit("10/s", cost=lambda tokens: tokens, max_wait=60)
    for reject in (lambda: limit.acquire(11), lambda: limit.call(print, 11)):
        with pytest.raises(RateLimitedError) as rejected:
            reject()
        error = rejected.value
        assert (error.reason, error.measured, error.limit, error.retry_after) == ("too_large", 11, 10, None)
    assert limit.available == {"requests": 10}
    assert limit.peek(11) == math.inf


def test_rl04_a_rejection_further_in_gives_the_tokens_back(vt):
    """RL-04: a call that an inner policy rejects was never made: it costs no tokens."""
    limit = rate_limit("10/h", Rate("1000/h", unit="tokens", cost=lambda *args: 100.0, burst=1000))
    breaker, room = circuit_breaker(initial="forced_open"), bulkhead(1)
    held = room.try_acquire()
    before = limit.available
    for inner, error in ((breaker, CircuitOpenError), (room, BulkheadFullError)):
        with pytest.raises(error):
            pipeline(limit, inner).call(print)
    assert limit.available == before
    held.success()


# ---- RL-05: nobody is held up by those who wait ----------------------------------------------------------------------


@BACKENDS
def test_rl05_nothing_is_locked_while_somebody_waits(vt, backend):
    """RL-05: while calls wait, the limit answers, counts, and is reconfigured; the loop goes on."""
    limit = drained("1/s", max_wait=60)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(limit.aacquire)
            ticks = 0
            while limit.snapshot().queued or ticks == 0:
                await anyio.sleep(0.1)
                ticks += 1
                assert not limit.try_acquire() or limit.snapshot().queued == 0
            assert ticks == pytest.approx(30, abs=2)

    vt.run(main, backend=backend)


@BACKENDS
def test_rl05_a_blocking_wait_on_an_event_loop_is_rejected(vt, backend):
    """RL-05: acquire() where a loop runs does not stop the loop: it is rejected if it would have to wait."""

    async def main():
        limit = rate_limit("1/s", max_wait=60)
        limit.acquire().success()
        with pytest.raises(RateLimitedError):
            limit.acquire()
        assert vt.now == 0
        assert limit.snapshot().queued == 0

    vt.run(main, backend=backend)


def test_rl05_threads_wait_without_the_lock(vt):
    """RL-05: blocked threads are served in order, at their times, and nobody polls."""
    limit = drained("10/s", max_wait=60)
    times = []

    def wait():
        with limit:
            times.append(vt.now)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    vt.advance(0.05)
    assert limit.snapshot().queued == 3
    vt.advance(1.0)
    for thread in threads:
        thread.join()
    assert times == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("waiters", [10, 10_000])
def test_rl05_a_grant_costs_the_same_however_many_wait(waiters):
    """RL-05: one token is a handful of callbacks: no broadcast, and one timer that matters."""
    limit = drained("1/h", burst=1, max_wait=9 * 365 * 86400, max_queued=waiters)
    calls = []

    class CountingLoop(asyncio.SelectorEventLoop):
        def call_soon(self, *args, **kwargs):
            calls.append(args[0])
            return super().call_soon(*args, **kwargs)

    async def main():
        tasks = [asyncio.ensure_future(limit.aacquire()) for _ in range(waiters)]
        await asyncio.sleep(0)
        done = sum(task.done() for task in tasks)
        for task in tasks[done : done + 5]:
            calls.clear()
            limit._gate.adjust("requests", -1)
            await task
            assert len(calls) <= 12, calls
        for task in tasks:
            task.cancel()
        for permit in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(permit, asyncio.CancelledError):
                permit.success()

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(main())
    assert_no_leaks()


@BACKENDS
def test_rl05_a_busy_head_does_not_hold_up_the_others(vt, backend):
    """RL-05: the head's own loop has no time for it; whoever comes next serves all that are due."""
    limit = drained("10/s", max_wait=60)
    stuck = asyncio.new_event_loop()
    head = stuck.create_task(limit.aacquire())
    stuck.run_until_complete(asyncio.sleep(0))
    assert limit.snapshot().queued == 1

    async def main():
        await anyio.sleep(0.25)
        (await limit.aacquire()).success()
        assert vt.now == pytest.approx(0.25)

    vt.run(main, backend=backend)
    assert not head.done(), "its loop has not run since"
    stuck.run_until_complete(head).success()
    stuck.close()


# ---- RL-06: reserve and settle ---------------------------------------------------------------------------------------


def budget(**options):
    """Few requests a minute, and tokens."""
    return rate_limit("600/min", Rate("60000/min", unit="tokens", burst=10_000), **options)


@BACKENDS
def test_rl06_calls_side_by_side_cannot_all_count_on_the_same_tokens(vt, backend):
    """RL-06: the estimate is taken before the call, so of ten that want 3000 of 10000 at once three pass."""
    limit = budget()
    inside = []

    async def call():
        try:
            async with limit.reserve(tokens=3000):
                inside.append(limit.available["tokens"])
                await anyio.sleep(1)
        except RateLimitedError as error:
            assert error.retry_after == pytest.approx(2.0)  # noqa: PT017 - not every call is rejected

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call)

    vt.run(main, backend=backend)
    assert inside == [7000, 4000, 1000]


@BACKENDS
def test_rl06_what_was_reserved_too_much_goes_back(vt, backend):
    """RL-06: settling below the estimate gives tokens back, at once, to who waits for them."""
    limit = budget(max_wait=60)
    times = []

    async def waiter():
        async with limit.reserve(tokens=5000):
            times.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group, limit.reserve(tokens=9000) as reservation:
            group.start_soon(waiter)
            await anyio.sleep(1)
            reservation.settle(tokens=2000)
            await anyio.sleep(1)
            assert times == [pytest.approx(1.0)]

    vt.run(main, backend=backend)


@BACKENDS
def test_rl06_an_overrun_is_a_debt_that_later_calls_wait_for(vt, backend):
    """RL-06: settling above the estimate takes the rest, below zero if need be."""
    limit = budget()

    async def main():
        async with limit.reserve(tokens=1000) as reservation:
            reservation.settle(tokens=12_000)
        assert limit.available["tokens"] == -2000
        assert limit.peek() == pytest.approx(2.001)  # the debt, and the one token that a call costs
        reservation.settle(tokens=11_000)  # the last word counts, also after the block
        assert limit.available["tokens"] == -1000

    vt.run(main, backend=backend)


@BACKENDS
def test_rl06_an_unsettled_reservation_keeps_its_estimate_if_the_callee_was_called(vt, backend):
    """RL-06: a body that fails or is cancelled has been run: the estimate stays taken. One never run costs nothing."""
    limit = budget(max_wait=60)

    async def main():
        with pytest.raises(OSError, match="broken"):
            async with limit.reserve(tokens=4000):
                raise OSError("broken")
        with anyio.move_on_after(0):
            async with limit.reserve(tokens=4000):
                await anyio.sleep(1)
        assert limit.available["tokens"] == 2000
        with anyio.move_on_after(0.001):
            async with limit.reserve(tokens=9000):
                raise AssertionError("there were not as many")
        assert limit.available["tokens"] == pytest.approx(2001, abs=0.5)
        snapshot = limit.snapshot()
        assert (snapshot.failures, snapshot.ignored, snapshot.cancelled) == (1, 1, 1)

    vt.run(main, backend=backend)
    assert_no_leaks()


def test_rl06_a_reservation_works_in_a_thread_and_can_be_called_off(vt):
    """RL-06: the same with a plain `with`; cancel gives everything back, requests too."""
    limit = budget()
    with limit.reserve(tokens=500) as reservation:
        assert limit.available == {"requests": 599, "tokens": 9500}
        reservation.settle(tokens=700)
        assert limit.available["tokens"] == 9300
    with pytest.raises(RuntimeError, match="used already"), reservation:
        pass
    vt.advance(1)
    with limit.reserve(tokens=500) as reservation:
        reservation.cancel()
    assert limit.available == {"requests": 599, "tokens": 10_000}


def test_rl06_a_reservation_names_units_that_exist(vt):
    """RL-06: a misspelt unit, or no number of tokens, is an error that says so."""
    limit = budget()
    for wrong, error in (({"tokns": 5}, ValueError), ({"tokens": -1}, ValueError), ({"tokens": "many"}, TypeError)):
        with pytest.raises(error, match=next(iter(wrong))):
            limit.reserve(**wrong)
    with pytest.raises(RuntimeError, match="holds nothing yet"):
        limit.reserve(tokens=5).settle(tokens=4)


@BACKENDS
def test_rl06_a_guarded_call_settles_what_it_took(vt, backend):
    """RL-06: current().settle corrects the estimate that the cost function made."""
    limit = rate_limit("100/s", Rate("60000/min", unit="tokens", cost=lambda text: len(text) * 100, burst=10_000))

    @limit
    async def ask(text):
        current().settle(limit, tokens=len(text))
        return text

    async def main():
        assert await ask("hello") == "hello"
        assert limit.available == {"requests": 99, "tokens": 9995}

    vt.run(main, backend=backend)


# ---- RL-07: asking, and extremes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["0.001/s", "7/min", "3/s", "2.5/s", "5/2s", "1000/h", "100/s", "1e6/s", "1e9/s"])
def test_rl07_retry_after_is_exact(vt, rate):
    """RL-07: a nanosecond before retry_after the call is rejected, and at it admitted: slow, odd and huge rates."""
    limit = rate_limit(rate, burst=1)
    assert limit.try_acquire()
    rejection = limit.try_acquire()
    wait_ns = round(rejection.retry_after * 1e9)
    assert limit.peek() == rejection.retry_after
    if wait_ns > 1:
        vt.advance((wait_ns - 1) * 1e-9)
        assert not limit.try_acquire()
    vt.advance(1e-9)
    assert limit.try_acquire()


def test_rl07_asking_takes_nothing(vt):
    """RL-07: peek and available have no side effects, and a rejection takes nothing of any rate."""
    limit = rate_limit("10/s", Rate("5/min", unit="tokens", cost=3, burst=5))
    assert limit.try_acquire()
    before = limit.available
    assert before == {"requests": 9, "tokens": 2}
    for _ in range(5):
        assert limit.peek() == pytest.approx(12.0)
        assert not limit.try_acquire()
    assert limit.available == before
    assert limit.snapshot().calls == 6


def test_rl07_the_long_run_is_the_rate(vt):
    """RL-07: a rate that is no whole number of nanoseconds is kept over days."""
    limit = rate_limit("90000/min", burst=1, max_wait=1e6, cost=lambda tokens: tokens)
    limit.try_acquire(1)
    assert limit._gate.wait(limit._gate.amounts((1,))) == pytest.approx(1 / 1500, abs=1e-9)
    limit.reconfigure(burst=1e9)
    limit.reset()
    assert limit.try_acquire(1e9)
    assert limit.peek(1500 * 86_400) == pytest.approx(86_400, abs=1e-8)


def test_rl07_a_clock_that_goes_back_grants_nothing(vt):
    """RL-07: time going backwards is time standing still."""
    limit = drained("10/s")
    now = clock.now_ns()
    for step in (10**8, -(10**10), 10**7):
        clock.set_virtual(now + step)
        admitted = bool(limit.try_acquire())
        assert admitted == (step == 10**8)
    clock.set_virtual(now + 2 * 10**8)
    assert limit.try_acquire()


@BACKENDS
def test_rl07_a_wait_that_would_be_too_long_is_rejected_on_arrival(vt, backend):
    """RL-07: what waits ahead counts; nobody queues in vain, and max_wait itself is not too long."""
    limit = drained("10/s", max_wait=0.3)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(limit.aacquire)
            await anyio.sleep(1e-6)
            with pytest.raises(RateLimitedError) as rejected:
                await limit.aacquire()
            assert rejected.value.reason == "rate"
            assert rejected.value.retry_after == pytest.approx(0.4, abs=1e-5)
            assert vt.now < 1e-5
        assert vt.now == pytest.approx(0.3)

    vt.run(main, backend=backend)


@BACKENDS
def test_rl07_several_rates_wait_exactly(vt, backend):
    """RL-07: with several rates the wait said on arrival is the one that comes true, also where one runs over."""
    limit = rate_limit(
        Rate("10/s", burst=1),
        Rate("100/s", unit="tokens", cost=lambda tokens: tokens, burst=100),
        max_wait=60,
    )
    assert limit.try_acquire(100)
    waits = {}

    async def call(name, tokens):
        said = limit.peek(tokens)
        came = vt.now
        async with limit.permit(tokens):
            waits[name] = (said, vt.now - came)

    async def main():
        async with anyio.create_task_group() as group:
            for name, tokens in enumerate([100, 0, 0, 30, 0, 5]):
                group.start_soon(call, name, tokens)
                await anyio.sleep(0.001)

    vt.run(main, backend=backend)
    for said, waited in waits.values():
        assert said == pytest.approx(waited, abs=1e-6)
    assert sorted(waits) == [0, 1, 2, 3, 4, 5]


@BACKENDS
def test_rl07_the_waiting_room_is_bounded(vt, backend):
    """RL-07: beyond max_queued a call is rejected at once, and told when it would have been its turn."""
    limit = drained("10/s", max_wait=60, max_queued=2)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(limit.aacquire)
            await anyio.sleep(1e-6)
            with pytest.raises(RateLimitedError) as rejected:
                await limit.aacquire()
            error = rejected.value
            assert (error.reason, error.measured, error.limit) == ("queue_full", 2, 2)
            assert error.retry_after == pytest.approx(0.3, abs=1e-5)

    vt.run(main, backend=backend)


@BACKENDS
def test_rl07_no_wait_outlasts_max_wait(vt, backend):
    """RL-07: a debt that comes while calls wait makes them late: they are rejected at max_wait, not later."""
    limit = drained("10/s", max_wait=1.0)
    fates = []

    async def call():
        try:
            await limit.aacquire()
            fates.append("admitted")
        except RateLimitedError as error:
            fates.append((error.reason, vt.now))

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(call)
            await anyio.sleep(0.001)
            limit._gate.adjust("requests", 100)

    vt.run(main, backend=backend)
    assert fates == [("wait", pytest.approx(1.0))] * 2
    assert_no_leaks()


@pytest.mark.untraced
def test_threads_share_one_limit_exactly():
    """A race of many threads: no more tokens pass than there are, and the threads did meet."""
    limit = rate_limit("1/d", burst=200)
    start = threading.Barrier(4)
    passed, rejected = [0] * 4, [0] * 4

    def run(index):
        start.wait()
        for _ in range(500):
            if limit.try_acquire():
                passed[index] += 1
            else:
                rejected[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 200
    assert sum(rejected) == 1800
    assert limit.snapshot().rejected == 1800
