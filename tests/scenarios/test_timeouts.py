"""The numbered scenarios of timeouts: what others got wrong, one promise each."""

from __future__ import annotations

import asyncio
import pickle

import anyio
import pytest

from resilio import bulkhead, circuit_breaker, deadline, pipeline, timeout
from resilio.errors import CallTimeoutError, DeadlineExceededError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


# ---- the promise -----------------------------------------------------------------------------------------------------


@BACKENDS
def test_a_call_that_takes_too_long_is_ended(vt, backend):
    """A call of 10 s under a timeout of 0.1 s raises after 0.1 s, and says by how much and by whom."""
    limit = timeout(0.1, name="slow-service")

    @limit
    async def call():
        await anyio.sleep(10)

    async def main():
        begun = vt.now
        with pytest.raises(CallTimeoutError) as caught:
            await call()
        assert vt.now - begun == pytest.approx(0.1, abs=0.002)
        error = caught.value
        assert (error.clock, error.limit, error.name, error.called) == ("total", 0.1, "slow-service", True)
        assert str(error) == "timeout 'slow-service': not done within 0.1 s"
        assert isinstance(error, TimeoutError)
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.clock, copy.limit, copy.name) == (str(error), "total", 0.1, "slow-service")

    vt.run(main, backend=backend)
    assert limit.snapshot().failures == 1
    assert_no_leaks(limit)


@BACKENDS
def test_calls_that_end_in_time_are_left_alone(vt, backend):
    """What ends in time returns or raises what it did, and nothing is interrupted afterwards."""
    limit = timeout(1.0)

    @limit
    async def call(seconds, error=None):
        await anyio.sleep(seconds)
        if error:
            raise error
        return seconds

    async def main():
        assert await call(0) == 0
        assert await call(0.5) == 0.5
        with pytest.raises(KeyError):
            await call(0.5, KeyError("mine"))
        await anyio.sleep(5)

    vt.run(main, backend=backend)
    snapshot = limit.snapshot()
    assert (snapshot.successes, snapshot.failures) == (2, 1)


# ---- TO-01 -----------------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("error", [TimeoutError("the callee's"), CallTimeoutError("total", 3.0, "another")])
def test_to01_the_callees_own_timeout_error_passes_unchanged(vt, backend, error):
    """TO-01: the callee's TimeoutError is raised as it is, and no timeout of ours is reported or learned."""
    limit = timeout("p99*3", ceiling=5.0)

    @limit
    async def call():
        await anyio.sleep(0.1)
        raise error

    async def main():
        with pytest.raises(TimeoutError) as caught:
            await call()
        assert caught.value is error
        assert caught.value.__cause__ is None

    vt.run(main, backend=backend)
    assert limit.learned_from == 0


# ---- TO-06: cancellation and timeout ---------------------------------------------------------------------------------


def test_to06_a_cancellation_from_outside_in_the_same_tick_is_not_swallowed(vt):
    """TO-06: of a timeout and a cancellation from outside that come together the latter goes on outward."""

    @timeout(0.1)
    async def call():
        await asyncio.sleep(10)

    async def main():
        task = asyncio.create_task(call())
        asyncio.get_running_loop().call_later(0.1, task.cancel, "from outside")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    vt.run(main)


@pytest.mark.parametrize("first", ["timeout", "outside"])
def test_to06_a_cancellation_while_a_timed_out_call_cleans_up_goes_on_outward(vt, first):
    """TO-06: somebody cancels while the callee cleans up after the timeout, or the timeout comes while it cleans up."""
    limit = timeout(0.1)

    @limit
    async def call():
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.2)

    async def main():
        task = asyncio.create_task(call())
        asyncio.get_running_loop().call_later(0.2 if first == "timeout" else 0.05, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    vt.run(main)
    assert_no_leaks(limit)


def test_to06_the_tasks_count_of_cancellations_is_balanced(vt):
    """TO-06: after a timeout the task is as uncancelled as before, so that a task group or asyncio.timeout works."""

    @timeout(0.1)
    async def call():
        await asyncio.sleep(10)

    async def main():
        task = asyncio.current_task()
        with pytest.raises(CallTimeoutError) as caught:
            await call()
        assert task.cancelling() == 0
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call()
        assert task.cancelling() == 0
        async with asyncio.timeout(0.5):
            with pytest.raises(CallTimeoutError):
                await call()
        assert task.cancelling() == 0

    vt.run(main)


def test_to06_a_result_that_comes_with_the_timeout_is_kept(vt):
    """TO-06: a callee that catches the cancellation and returns has returned."""

    @timeout(0.1)
    async def call():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "partial"

    async def main():
        assert await call() == "partial"
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(1)

    vt.run(main)


def test_the_callees_cleanup_is_not_cancelled_again(vt):
    """What the callee does on its way out may take its time, whatever timeouts and deadlines pass meanwhile."""
    steps = []

    @timeout(0.1)
    async def inner():
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.5)
            steps.append("cleaned up")

    @timeout(0.2)
    async def middle():
        await inner()

    @pipeline(timeout(0.3), timeout(0.25))
    async def outer():
        await middle()

    async def main():
        with pytest.raises(CallTimeoutError):
            await outer()
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)
    assert steps == ["cleaned up"]
    assert vt.now == pytest.approx(0.6, abs=0.01)


# ---- nested ----------------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize(("outer", "inner", "whose"), [(1.0, 2.0, "outer"), (2.0, 1.0, "inner")])
@pytest.mark.parametrize("stacked", [True, False])
def test_of_nested_timeouts_the_one_that_is_up_raises(vt, backend, outer, inner, whose, stacked):
    """Of two timeouts around each other, in one pipeline or of two functions, the shorter ends the call."""
    outside, inside = timeout(outer, name="outer"), timeout(inner, name="inner")

    async def work():
        await anyio.sleep(10)

    guarded = pipeline(outside, inside)(work) if stacked else outside(_calls(inside(work)))

    async def main():
        with pytest.raises(CallTimeoutError) as caught:
            await guarded()
        assert caught.value.name == whose

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(1.0, abs=0.01)


def _calls(fn):
    async def call():
        return await fn()

    return call


@BACKENDS
def test_a_deadline_that_ties_with_a_timeout_comes_first(vt, backend):
    """A call whose timeout is up when the ambient deadline passes raises DeadlineExceededError."""

    @timeout(1.0)
    async def call():
        await anyio.sleep(10)

    async def main():
        with deadline(1.0), pytest.raises(DeadlineExceededError) as caught:
            await call()
        assert caught.value.deadline == 1.0

    vt.run(main, backend=backend)


# ---- labels ----------------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("fused", [True, False])
def test_gates_inside_of_a_timeout_learn_a_failure(vt, backend, fused):
    """For a breaker and a bulkhead inside a timeout is a failure, in one pipeline and in two; permits go back."""
    breaker, permits = circuit_breaker(consecutive=2), bulkhead(1)

    async def work():
        await anyio.sleep(10)

    guarded = pipeline(breaker, permits)(work)
    limit = timeout(0.1)
    call = limit(guarded) if fused else limit(_calls(guarded))

    async def main():
        for _ in range(2):
            with pytest.raises(CallTimeoutError):
                await call()

    vt.run(main, backend=backend)
    assert breaker.snapshot().failures == permits.snapshot().failures == 2
    assert breaker.state == "open"
    assert_no_leaks(breaker, permits, limit)


@BACKENDS
def test_gates_outside_of_a_timeout_learn_a_failure(vt, backend):
    """A breaker outside sees a CallTimeoutError, which is a failure like any."""
    breaker = circuit_breaker(consecutive=1)

    @pipeline(breaker, timeout(0.1))
    async def call():
        await anyio.sleep(10)

    async def main():
        with pytest.raises(CallTimeoutError):
            await call()

    vt.run(main, backend=backend)
    assert breaker.state == "open"


@BACKENDS
def test_a_cancellation_from_outside_teaches_nothing(vt, backend):
    """A call that its caller has cancelled is no timeout, for the timeout and for the gates inside."""
    breaker, limit = circuit_breaker(), timeout(5.0)

    @pipeline(limit, breaker)
    async def call():
        await anyio.sleep(10)

    async def main():
        with anyio.move_on_after(0.1):
            await call()

    vt.run(main, backend=backend)
    assert breaker.snapshot().ignored == limit.snapshot().ignored == 1
    assert breaker.snapshot().failures == limit.snapshot().failures == 0
