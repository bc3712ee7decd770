"""Races of a hedged call on asyncio: whose cancellation it is, who ends first, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref

import pytest
from measured import measured

from resilio import RetryBudget, bulkhead, circuit_breaker, current, pipeline, retry, timeout
from resilio.errors import CallTimeoutError, DeadlineExceededError
from resilio.testing import assert_no_leaks


@pytest.fixture(params=["plain", "eager", "uvloop"])
def run(request, vt):
    """Run a coroutine function on a loop with plain tasks, with eager ones, and on uvloop."""

    def plain(main):
        return vt.run(main)

    def eager(main):
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")

        async def eagerly():
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            return await main()

        return vt.run(eagerly)

    def uvloop(main):
        pytest.importorskip("uvloop")
        from storm.virtual_uvloop import VirtualUvloop

        with asyncio.Runner(loop_factory=lambda: VirtualUvloop(vt)) as runner:
            return runner.run(main())

    return {"plain": plain, "eager": eager, "uvloop": uvloop}[request.param]


def slow_primary(hedge, *, copy=0.01, primary=10.0, cleanup=None):
    """Return a function under `hedge` whose primary is slow, and a list of what happened to it."""
    seen = []

    @hedge
    async def call():
        number = current().hedge
        seen.append(f"{number} begins")
        try:
            await asyncio.sleep(copy if number else primary)
        except asyncio.CancelledError:
            seen.append(f"{number} cancelled")
            if cleanup is not None and not number:
                await cleanup()
                seen.append("0 cleaned up")
            raise
        seen.append(f"{number} ends")
        return number

    return call, seen


def balanced():
    """Assert that nobody's cancellation is left in this task."""
    assert asyncio.current_task().cancelling() == 0


# ---- who ends first ------------------------------------------------------------------------------------------------


def test_a_copy_that_wins_has_the_primary_cancelled(run, vt):
    """The copy's result comes when the copy ends, the primary is cancelled, and no cancellation is left behind."""
    call, seen = slow_primary(measured())

    async def main():
        begun = vt.now
        assert await call() == 1
        assert vt.now - begun == pytest.approx(0.06, abs=0.003)
        balanced()
        await asyncio.sleep(0)

    run(main)
    assert seen == ["0 begins", "1 begins", "1 ends", "0 cancelled"]


def test_both_in_one_tick_give_one_result(run):
    """A copy and a primary that end in the same tick give one result, and the other's is discarded."""
    late = []
    hedge = measured(discard=late.append)

    @hedge
    async def call():
        number = current().hedge
        await futures[number]
        return number

    async def main():
        loop = asyncio.get_running_loop()
        for first in (0, 1):
            futures[:] = [loop.create_future(), loop.create_future()]
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0.1)
            futures[first].set_result(None)
            futures[1 - first].set_result(None)
            results.append(await task)
            await asyncio.sleep(0.1)

    futures, results = [], []
    run(main)
    assert sorted(results + late) == sorted(results + [1 - results[0]] * (len(late) > 0) + late[1:])
    assert set(results) <= {0, 1}
    assert hedge.snapshot().inflight == 0
    assert hedge.snapshot().successes == 2


def test_a_copy_that_fails_does_not_beat_a_healthy_primary(run):
    """The primary's result comes when the copy fails first."""
    hedge = measured()

    @hedge
    async def call():
        if current().hedge:
            raise ConnectionError("the copy")
        await asyncio.sleep(0.2)
        return "primary"

    async def main():
        assert await call() == "primary"

    run(main)
    assert hedge.snapshot().hedge_wins == 0


def test_the_primarys_exception_is_raised_if_none_succeeds(run):
    """Of several failures the primary's own exception is raised, and copies that were running are waited for."""
    hedge = measured()

    @hedge
    async def call():
        number = current().hedge
        await asyncio.sleep(0.1 if number == 0 else 0.2)
        raise ConnectionError(number)

    async def main():
        with pytest.raises(ConnectionError, match=r"^0\b") as caught:
            await call()
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        balanced()

    run(main)


def test_a_failed_primary_leaves_further_copies_their_time(run, vt):
    """Once the primary has failed, a copy starts at once, and the next when it is due after that one."""
    hedge = measured([0.05, 0.05], saved=2)
    begun = []

    @hedge
    async def call():
        number = current().hedge
        begun.append((number, round(vt.now, 2)))
        if number == 0:
            raise ConnectionError
        await asyncio.sleep(10 if number == 1 else 0.01)
        return number

    async def main():
        assert await call() == 2

    run(main)
    assert begun == [(0, 0.0), (1, 0.0), (2, 0.05)]


def test_a_copy_that_saves_a_failed_primary_makes_the_call_a_success(run):
    """The hedge counts what the caller gets, a result; the failure of the primary is counted by the breaker inside."""
    hedge, breaker = measured(), circuit_breaker(consecutive=100)

    @hedge
    @breaker
    async def call():
        await asyncio.sleep(0.1)
        if current().hedge == 0:
            raise ConnectionError
        return current().hedge

    async def main():
        before = hedge.snapshot()
        assert await call() == 1
        after = hedge.snapshot()
        assert (after.successes - before.successes, after.failures - before.failures) == (1, 0)
        assert (breaker.snapshot().successes, breaker.snapshot().failures) == (1, 1)

    run(main)


def test_a_primary_that_ignores_its_cancellation_does_not_win(run):
    """A primary that swallows the cancellation and returns is too late: its value is discarded."""
    late = []
    hedge = measured(discard=late.append)

    @hedge
    async def call():
        if current().hedge:
            return "copy"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return "primary"

    async def main():
        assert await call() == "copy"
        balanced()

    run(main)
    assert late == ["primary"]


def test_a_primary_that_raises_something_else_when_cancelled_does_not_matter(run):
    """What a superseded primary raises is nobody's."""
    hedge = measured()

    @hedge
    async def call():
        if current().hedge:
            return "copy"
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise RuntimeError("half closed") from None

    async def main():
        assert await call() == "copy"

    run(main)


# ---- cancelled from outside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.02, 0.055, 0.06])
@pytest.mark.parametrize("times", [1, 2])
def test_a_cancellation_from_outside_goes_on_outward(run, at, times):
    """Before a copy, beside one, and in the very tick in which one wins: the cancellation is never swallowed."""
    late = []
    hedge = measured(discard=late.append)
    call, seen = slow_primary(hedge)

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call())
        for _ in range(times):
            loop.call_at(loop.time() + at, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert "0 cancelled" in seen
    assert_no_leaks(hedge)


@pytest.mark.parametrize("winner_first", [True, False])
def test_cancelled_in_the_callback_round_in_which_a_copy_wins(run, winner_first):
    """Whichever callback comes first, the caller's cancellation counts, and the copy's result is discarded."""
    late = []
    hedge = measured(discard=late.append)
    gate_open = []

    @hedge
    async def call():
        if current().hedge:
            await gate_open[0]
            return "copy"
        return await asyncio.sleep(10)

    async def main():
        loop = asyncio.get_running_loop()
        gate_open.append(loop.create_future())
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.1)
        gate_open[0].set_result(None)
        if winner_first:
            await asyncio.sleep(0)  # the copy has ended, its callback is about to run
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)

    run(main)
    assert late in ([], ["copy"])
    assert_no_leaks(hedge)


def test_asyncio_timeout_in_the_same_tick_is_not_taken_for_ours(run, vt):
    """asyncio.timeout and a copy that wins, in one tick: one of both counts, and the task is not left cancelling."""
    call, _ = slow_primary(measured())

    async def main():
        for offset in range(-3, 4):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.06 + offset / 1000):
                    assert await call() == 1
            balanced()
            await asyncio.sleep(1)
            balanced()

    run(main)


def test_a_second_cancellation_does_not_cut_the_copies_cleanup_short(run, vt):
    """Who cancels again waits for the copies all the same: they were cancelled once, as the tasks of a group are."""
    hedge = measured()
    ended = []

    @hedge
    async def call():
        try:
            await asyncio.sleep(10)
        finally:
            if current().hedge:
                await asyncio.sleep(5)
                ended.append(vt.now)

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call())
        loop.call_later(0.1, task.cancel)
        loop.call_later(0.2, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [pytest.approx(5.1, abs=0.01)]

    run(main)


# ---- inside of timeouts, deadlines and retries -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.03, 0.055, 0.058, 0.059, 0.06, 0.061, 0.062, 0.2])
def test_a_timeout_outside_of_a_hedge_ends_all_of_it(run, vt, limit):
    """The call ends with the copy's result or with the timeout's error; either way nothing is left."""
    hedge = measured()
    call, _ = slow_primary(hedge)
    guarded = timeout(limit)(call)

    async def main():
        begun = vt.now
        try:
            assert await guarded() == 1
        except CallTimeoutError:
            assert limit < 0.07
        assert vt.now - begun < max(limit, 0.065) + 0.003
        balanced()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert_no_leaks(hedge)


def test_a_timeout_ends_the_wait_for_copies_after_a_failure(run, vt):
    """A primary that has failed and a copy that hangs: the timeout outside still counts."""
    hedge = measured()

    @timeout(0.3)
    @hedge
    async def call():
        if current().hedge == 0:
            raise ConnectionError
        await asyncio.sleep(10)

    async def main():
        with pytest.raises(CallTimeoutError):
            await call()
        balanced()
        assert vt.now == pytest.approx(0.3, abs=0.003)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_a_timeout_inside_of_a_hedge_counts_for_each_copy(run, vt):
    """Each attempt has its own timeout, and an attempt that times out is one that failed."""

    @measured([0.05])
    @timeout(0.1)
    async def call():
        await asyncio.sleep(10 if current().hedge == 0 else 0.08)
        return current().hedge

    async def main():
        assert await call() == 1
        balanced()

    run(main)


def test_a_hedge_inside_of_a_retry_inside_of_a_timeout(run, vt):
    """Each attempt is hedged anew, and the timeout ends whichever runs."""
    attempts = []

    @timeout(5.0)
    @retry(on=ConnectionError, attempts=3, backoff=0.1, budget=RetryBudget(cap=10, initial=10))
    @measured(saved=2)
    async def call():
        view = current()
        attempts.append((view.attempt, view.hedge))
        await asyncio.sleep(0.1 + 0.05 * view.hedge)
        if view.attempt < 3:
            raise ConnectionError
        return "done"

    async def main():
        assert await call() == "done"
        balanced()

    run(main)
    assert attempts == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


@pytest.mark.filterwarnings(
    "ignore::resilio._composition.pipeline.PipelineWarning"
)  # the order is not the recommended one
def test_a_superseded_primary_is_not_retried(run):
    """A retry inside of a hedge does not begin again for a primary that was superseded, whatever its cleanup raises."""
    begun = []

    @measured()
    @retry(on=RuntimeError, attempts=5, backoff=0.0)
    async def call():
        begun.append(current().hedge)
        if current().hedge:
            await asyncio.sleep(0.01)
            return "copy"
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise RuntimeError("converted") from None

    async def main():
        assert await call() == "copy"
        await asyncio.sleep(1)

    run(main)
    assert begun == [0, 1]


def test_a_timeout_outside_of_a_retry_is_not_retried(run, vt):
    """A timeout's cancellation that the callee turns into an error which is retried: the time is up all the same."""

    @timeout(0.1)
    @retry(on=RuntimeError, attempts=5, backoff=0.0)
    async def call():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise RuntimeError("converted") from None

    async def main():
        with pytest.raises((CallTimeoutError, RuntimeError)):
            await call()
        assert vt.now < 0.2
        balanced()

    run(main)


def test_nested_hedges(run, vt):
    """A hedge in a hedge: copies of copies are not made, and nothing is left whoever wins."""
    outer, inner = measured(0.1), measured(0.05)
    begun = []

    @outer
    @inner
    async def call(slow_copies):
        begun.append(current().hedge)
        await asyncio.sleep(10 if current().hedge == 0 or (slow_copies and len(begun) < 3) else 0.01)
        return "done"

    async def main():
        assert await call(False) == "done"
        assert len(begun) == 2
        begun.clear()
        assert await call(True) == "done"
        assert len(begun) == 3
        await asyncio.sleep(1)
        balanced()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert_no_leaks(outer, inner)


def test_a_deadline_that_a_copy_cannot_meet(run, vt):
    """No copy starts that would end after the ambient deadline, if it takes as long as half of the calls."""
    from resilio import deadline

    hedge = measured(0.05, typical=0.5)
    call, seen = slow_primary(hedge)

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with deadline(0.3):
                await call()
        balanced()

    run(main)
    assert "1 begins" not in seen


# ---- queues and rejections inside
# --------------------------------------------------------------------------------------


def test_a_primary_that_waits_in_a_queue_inside_is_superseded_there(run, vt):
    """The copy does not wait in the queue: it is rejected; with another target the queue is left when that wins."""
    pool = bulkhead(1, max_queued=10, max_wait=10)

    async def elsewhere():
        return "elsewhere"

    hedge = measured(to=elsewhere)

    @pipeline(hedge, pool)
    async def call():
        await asyncio.sleep(1)
        return "here"

    async def main():
        first, second = asyncio.ensure_future(call()), asyncio.ensure_future(call())
        assert await second == "here"
        assert await first == "here"
        balanced()

    run(main)
    assert hedge.snapshot().hedges_rejected == 2
    assert hedge.snapshot().hedges == 0
    assert_no_leaks(hedge, pool)


# ---- dropped ---------------------------------------------------------------------------------------------------------


def test_a_dropped_call_takes_its_copies_with_it(run):
    """A call that is closed or forgotten while a copy runs: the copy is cancelled, and nothing is left."""
    hedge = measured()
    call, seen = slow_primary(hedge, copy=10)

    async def main():
        for close in (True, False):
            seen.clear()
            driver = Driver(call())
            task = asyncio.ensure_future(driver.drive())
            await asyncio.sleep(0.1)
            assert "1 begins" in seen
            dropped = weakref.ref(driver.call)
            if close:
                driver.call.close()
            driver.call = None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert dropped() is None
            await asyncio.sleep(0.1)
            assert "1 cancelled" in seen
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert_no_leaks(hedge)


class Driver:
    """Drives a call by hand from within a task, so that it can be dropped under way."""

    def __init__(self, call):
        self.call = call

    async def drive(self):
        """Wait for what the call waits for, and then for ever."""
        self.call.send(None)
        await asyncio.sleep(100)


def test_nothing_refers_to_itself(run):
    """A race leaves no cycles: when the caller has the result, and the losers have ended, all is freed."""

    class Thing:
        pass

    hedge = measured()

    @hedge
    async def call(thing):
        await asyncio.sleep(0.01 if current().hedge else 10)
        return thing

    @hedge
    async def fail(thing):
        await asyncio.sleep(0.1)
        raise ConnectionError

    async def main():
        gc.collect()
        gc.disable()
        try:
            for function in (call, fail):
                thing = Thing()
                seen = weakref.ref(thing)
                with contextlib.suppress(ConnectionError):
                    await function(thing)
                await asyncio.sleep(1)
                del thing
                assert seen() is None, gc.get_referrers(seen())
        finally:
            gc.enable()

    run(main)


def test_a_loop_that_ends_while_copies_run(vt):
    """A loop that is closed with a hedged call under way leaves nothing behind but what asyncio itself reports."""
    hedge = measured()
    call, seen = slow_primary(hedge, copy=10)
    task = None

    async def main():
        nonlocal task
        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.1)

    vt.run(main)  # Runner cancels what is left
    assert "1 cancelled" in seen
    assert task.cancelled()
    assert_no_leaks(hedge)
