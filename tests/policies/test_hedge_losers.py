"""Losers of a race on asyncio: the caller waits for its primary's cleanup, where it runs, and for no copy's."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
from types import coroutine

import anyio
import pytest
from measured import measured

from resilio import CallTimeoutError, bulkhead, circuit_breaker, current, pipeline, timeout
from resilio.testing import assert_no_leaks

WINS = pytest.approx(0.06, abs=0.004)
"""When the copy of `hedged` ends; the call ends when its primary has cleaned up, too."""


@pytest.fixture(params=["plain", "eager"])
def run(request, vt):
    """Run a coroutine function on a loop with plain tasks, or with eager ones."""

    def eager(main):
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")

        async def eagerly():
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            return await main()

        return vt.run(eagerly)

    return eager if request.param == "eager" else vt.run


def hedged(cleanup, *inside, body=None, **options):
    """Return a function whose copy ends after 60 ms and whose primary then cleans up, and the policy around it."""
    hedge = measured(**options)

    async def call():
        if current().hedge:
            await asyncio.sleep(0.01)
            return "copy"
        try:
            await (body() if body is not None else asyncio.sleep(10))
        except asyncio.CancelledError:
            await cleanup()
            raise
        return "primary"

    policy = pipeline(hedge, *inside) if inside else hedge
    return policy(call), hedge


async def winner(vt, call):
    """Make the call and return when it ended."""
    begun = vt.now
    assert await call() == "copy"
    assert asyncio.current_task().cancelling() == 0
    return vt.now - begun


# ---- what is waited for ----------------------------------------------------------------------------------------------


def test_a_superseded_primary_cleans_up_before_the_call_ends(run, vt):
    """The copy has won after 60 ms, and its result comes when the primary's five seconds of cleanup are over."""
    tasks = []

    async def cleanup():
        await asyncio.sleep(5)
        tasks.append(asyncio.current_task())

    call, hedge = hedged(cleanup)

    async def main():
        assert await winner(vt, call) == pytest.approx(5.06, abs=0.01)
        assert tasks == [asyncio.current_task()]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert_no_leaks(hedge)


def test_a_losing_copys_cleanup_delays_nothing(run, vt):
    """The primary's result is there at once; the copy, which the loop alone knows now, keeps its permit meanwhile."""
    pool, hedge = bulkhead(2), measured()
    ended = []

    @pipeline(hedge, pool)
    async def call():
        if not current().hedge:
            await asyncio.sleep(0.1)
            return "primary"
        try:
            return await asyncio.sleep(10)
        finally:
            await asyncio.sleep(5)
            ended.append(vt.now)

    async def main():
        assert await call() == "primary"
        assert vt.now == pytest.approx(0.1, abs=0.002)
        gc.collect()
        assert pool.snapshot().inflight == 1
        await asyncio.sleep(6)

    run(main)
    assert ended == [pytest.approx(5.1, abs=0.01)]
    assert_no_leaks(hedge, pool)


def test_a_call_gives_back_what_many_policies_gave(run, vt):
    """More of them than a call has room for inside: each permit goes back when the primary's cleanup has ended."""
    pools = [bulkhead(2) for _ in range(9)]
    seen = []

    async def cleanup():
        await asyncio.sleep(5)
        seen.extend(pool.snapshot().inflight for pool in pools)

    call, _ = hedged(cleanup, *pools)

    async def main():
        await winner(vt, call)

    run(main)
    assert seen == [1] * 9
    assert_no_leaks(*pools)


def test_permits_are_held_until_the_cleanup_ends(run, vt):
    """A superseded primary still uses what it was admitted to, and says nothing to the gates inside."""
    pool = bulkhead(2)
    breaker = circuit_breaker(min_calls=1)
    seen = []

    async def cleanup():
        await asyncio.sleep(5)
        seen.append(pool.snapshot().inflight)

    call, hedge = hedged(cleanup, breaker, pool)

    async def main():
        await winner(vt, call)

    run(main)
    assert seen == [1]
    assert (breaker.snapshot().successes, breaker.snapshot().failures, breaker.snapshot().ignored) == (1, 0, 1)
    assert (pool.snapshot().successes, pool.snapshot().ignored) == (1, 1)
    assert_no_leaks(hedge, pool, breaker)


@pytest.mark.parametrize("error", [None, RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize("lasts", [0, 1])
def test_what_a_superseded_primary_ends_with(run, vt, error, lasts, caplog):
    """A result that came too late goes to `discard`, an exception of its cleanup into the log, and the copy wins."""
    late = []

    async def body():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(lasts)
            if error:
                raise error from None

    call, hedge = hedged(asyncio.sleep, body=body, discard=late.append)
    call = hedge(body_or_copy(body))

    async def main():
        assert await winner(vt, call) == pytest.approx(0.06 + lasts, abs=0.004)

    run(main)
    assert late == ([None] if error is None else [])
    assert ("failed while it cleaned up" in caplog.text) == (error is RuntimeError)


def body_or_copy(body):
    """Return a function that runs `body` as its primary."""

    async def call():
        if current().hedge:
            await asyncio.sleep(0.01)
            return "copy"
        return await body()

    return call


def test_a_ctrl_c_of_a_loser_is_not_lost(vt):
    """KeyboardInterrupt in a loser's cleanup goes on outward."""

    async def cleanup():
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    call, hedge = hedged(cleanup)

    async def main():
        await call()

    with pytest.raises(KeyboardInterrupt):
        vt.run(main)
    assert_no_leaks(hedge)


# ---- cancelled meanwhile ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swallows", [False, True])
def test_a_caller_that_is_cancelled_during_that_cleanup(run, vt, swallows):
    """The cancellation cuts the cleanup short, as without a hedge, and propagates; the copy's result is discarded."""
    late = []

    async def cleanup():
        if swallows:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
        else:
            await asyncio.sleep(5)

    call, hedge = hedged(cleanup, discard=late.append)

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call())
        loop.call_at(loop.time() + 1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vt.now == pytest.approx(1, abs=0.01)
        assert task.cancelled()

    run(main)
    assert late == ["copy"]
    assert_no_leaks(hedge)


def test_a_timeout_outside_passes_during_that_cleanup(run, vt):
    """No second cancellation is sent; after the cleanup the call ends by the timeout, and the result is discarded."""
    late, cleaned = [], []

    async def cleanup():
        await asyncio.sleep(1)
        cleaned.append(vt.now)

    call, hedge = hedged(cleanup, discard=late.append)

    async def main():
        with pytest.raises(CallTimeoutError):
            await timeout(0.5)(call)()
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert (cleaned, late) == ([pytest.approx(1.06, abs=0.01)], ["copy"])
    assert_no_leaks(hedge)


# ---- what knows its task ---------------------------------------------------------------------------------------------


async def in_timeout():
    """Clean up under asyncio.timeout, which fires."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.sleep(10)


async def in_task_group():
    """Clean up in a task group, one of whose tasks fails."""

    async def fail():
        await asyncio.sleep(0.1)
        raise ConnectionError

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(10)


async def in_cancel_scope():
    """Clean up in a shielded scope of anyio with a limit."""
    with anyio.move_on_after(0.5, shield=True):
        await anyio.sleep(10)


BEFORE_3_11_3 = pytest.mark.skipif(
    sys.version_info < (3, 11, 3),
    reason="CPython gh-102780, mended in 3.11.3: asyncio.timeout in the cleanup of a cancelled task is CancelledError",
)


@pytest.mark.parametrize("cleanup", [pytest.param(in_timeout, marks=BEFORE_3_11_3), in_task_group, in_cancel_scope])
def test_cleanup_that_knows_its_task(run, vt, cleanup):
    """A timeout, a task group or a cancel scope around the cleanup works, and cancels nothing afterwards."""
    done = []

    async def clean():
        await cleanup()
        done.append(True)

    call, hedge = hedged(clean)

    async def main():
        await winner(vt, call)
        assert done == [True]
        await asyncio.sleep(20)
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert_no_leaks(hedge)


@pytest.mark.parametrize("scope", [asyncio.timeout, anyio.move_on_after])
def test_a_primary_within_a_timeout_of_its_own(run, vt, scope):
    """A timeout that the primary was begun in does not cancel the caller later on."""

    async def body():
        async with contextlib.AsyncExitStack() as stack:
            if scope is asyncio.timeout:
                await stack.enter_async_context(scope(3))
            else:
                stack.enter_context(scope(3))
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(1)

    hedge = measured()
    call = hedge(body_or_copy(body))

    async def main():
        await winner(vt, call)
        await asyncio.sleep(20)
        assert asyncio.current_task().cancelling() == 0

    run(main)


def test_a_timeout_within_the_cleanup_bounds_it(run, vt):
    """A guarded function that the cleanup calls has its own timeout, as it would have an `asyncio.timeout`."""
    seen = []

    @timeout(0.5)
    async def close():
        await asyncio.sleep(10)

    async def cleanup():
        try:
            await close()
        except TimeoutError:
            seen.append(vt.now)

    call, hedge = hedged(cleanup)

    async def main():
        await winner(vt, call)
        await asyncio.sleep(20)
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert seen == [pytest.approx(0.56, abs=0.01)]
    assert_no_leaks(hedge)


def test_context_variables_of_the_cleanup(run, vt):
    """A token of before is good in a cleanup: it runs in the caller's context."""
    variable = contextvars.ContextVar("variable", default="before")
    seen = []

    async def body():
        token = variable.set("inside")
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
            seen.append(variable.get())
            variable.reset(token)

    hedge = measured()
    call = hedge(body_or_copy(body))

    async def main():
        await winner(vt, call)
        assert variable.get() == "before"

    run(main)
    assert seen == ["inside"]


def test_strange_things_in_the_way(run, vt):
    """Generators, asynchronous ones and awaitables of one's own between the call and its cleanup."""
    done = []

    @coroutine
    def old_style():
        yield from asyncio.sleep(1).__await__()

    class Own:
        def __await__(self):
            yield from asyncio.sleep(1).__await__()

    async def items():
        try:
            yield 1
            await asyncio.sleep(10)
        finally:
            await old_style()
            await Own()
            done.append(True)

    async def body():
        async for _ in items():
            pass

    hedge = measured()
    call = hedge(body_or_copy(body))

    async def main():
        assert await winner(vt, call) == pytest.approx(2.06, abs=0.01)

    run(main)
    assert done == [True]


def test_a_nested_hedge_that_is_superseded_while_its_copy_runs(run, vt):
    """An outer copy wins over a primary whose own hedge has a copy: that one is cancelled, and cancels nothing."""
    inner_seen = []
    inner = measured(0.02)

    @inner
    async def deep():
        number = current().hedge
        try:
            await asyncio.sleep(10)
        finally:
            inner_seen.append(number)
            await asyncio.sleep(1)

    hedge = measured()
    call = hedge(body_or_copy(deep))

    async def main():
        begun = vt.now
        assert await call() == "copy"
        assert vt.now - begun < 3
        await asyncio.sleep(20)
        assert asyncio.current_task().cancelling() == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)
    assert sorted(inner_seen) == [0, 1]
    assert_no_leaks(hedge, inner)


def test_two_hedges_in_one_stack_and_slow_cleanup(run, vt):
    """An outer copy wins over a primary whose own hedge runs a copy, all in one pipeline: both are waited for."""
    outer, inner, pool = measured(0.05), measured(0.02, max_extra=1.0), bulkhead(5)

    @pipeline(outer, inner, pool)
    async def call():
        begun.append(current().hedge)
        try:
            await asyncio.sleep(0.01 if len(begun) == 3 else 10)
        except asyncio.CancelledError:
            await asyncio.sleep(3)
            raise
        return "copy"

    begun = []

    async def main():
        assert await winner(vt, call) == pytest.approx(6.06, abs=0.01)
        await asyncio.sleep(20)
        assert pool.snapshot().inflight == 0
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert len(begun) == 3
    assert_no_leaks(outer, inner, pool)
