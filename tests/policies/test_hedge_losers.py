"""Losers of a race on asyncio: nobody waits for their cleanup, which holds its permits until it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from types import coroutine

import anyio
import pytest
from measured import measured

from resilio import bulkhead, circuit_breaker, current, pipeline, timeout
from resilio._strategies import losers
from resilio.testing import assert_no_leaks

WINS = pytest.approx(0.06, abs=0.004)
"""When the copy of `hedged` ends, and the call with it."""


@pytest.fixture
def vt(resilio_virtual_time):
    """Virtual time for the whole test."""
    return resilio_virtual_time


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


def kept():
    """Return the tasks that still see losers out."""
    return {task for task in losers._kept if not task.done()}


# ---- nobody waits --------------------------------------------------------------------------------------------------


def test_a_long_cleanup_does_not_delay_the_winner(run, vt):
    """The result is there a millisecond after the copy's end, though the primary cleans up for five seconds."""
    ended = []

    async def cleanup():
        try:
            await asyncio.sleep(5)
        finally:
            ended.append(vt.now)

    call, hedge = hedged(cleanup)

    async def main():
        assert await winner(vt, call) == WINS
        assert len(kept()) == 1
        await asyncio.sleep(6)
        assert not kept()

    run(main)
    assert ended == [pytest.approx(5.06, abs=0.01)]
    assert_no_leaks(hedge)


def test_a_short_cleanup_ends_in_the_callers_task(run, vt):
    """What takes less than the moment of grace is done where it was begun."""
    tasks = []

    async def cleanup():
        await asyncio.sleep(0)
        await asyncio.sleep(losers.GRACE / 4)
        tasks.append(asyncio.current_task())

    call, _ = hedged(cleanup)

    async def main():
        assert await winner(vt, call) == WINS
        assert tasks == [asyncio.current_task()]

    run(main)


def test_a_cleanup_that_only_takes_turns_is_left_alone_too(run, vt):
    """Bare turns of the loop without end do not hold up the winner."""
    turns = 0

    async def cleanup():
        nonlocal turns
        while turns < 100_000 and not stop:
            turns += 1
            vt.advance(0.0001)
            await asyncio.sleep(0)

    call, _ = hedged(cleanup)
    stop = []

    async def main():
        assert await winner(vt, call) == WINS
        assert turns < 50
        stop.append(True)
        await asyncio.sleep(0.1)
        assert not kept()

    run(main)


def test_a_loser_takes_along_what_many_policies_gave(run, vt):
    """More of them than a call has room for inside: each permit goes back when the loser's cleanup has ended."""
    pools = [bulkhead(2) for _ in range(9)]

    async def cleanup():
        await asyncio.sleep(5)

    call, _ = hedged(cleanup, *pools)

    async def main():
        assert await winner(vt, call) == WINS
        assert [pool.snapshot().inflight for pool in pools] == [1] * 9
        await asyncio.sleep(6)
        assert not kept()

    run(main)
    assert_no_leaks(*pools)


def test_permits_are_held_until_the_cleanup_ends(run, vt):
    """A loser still uses what it was admitted to: its permit goes back with the end of its cleanup, not before."""
    pool = bulkhead(2)
    breaker = circuit_breaker(min_calls=1)

    async def cleanup():
        await asyncio.sleep(5)

    call, hedge = hedged(cleanup, breaker, pool)

    async def main():
        await winner(vt, call)
        assert pool.snapshot().inflight == 1
        await asyncio.sleep(6)
        assert pool.snapshot().inflight == 0

    run(main)
    assert (breaker.snapshot().successes, breaker.snapshot().failures, breaker.snapshot().ignored) == (1, 0, 1)
    assert (pool.snapshot().successes, pool.snapshot().ignored) == (1, 1)
    assert_no_leaks(hedge, pool, breaker)


@pytest.mark.parametrize("error", [None, RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize("lasts", [0, losers.GRACE / 2, 1])
def test_what_a_loser_ends_with_is_nobodys(run, vt, error, lasts):
    """A value goes to `discard`, an exception nowhere, whether it comes at once, within the grace, or later."""
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
        assert await winner(vt, call) == WINS
        await asyncio.sleep(2)

    run(main)
    assert late == ([None] if error is None else [])


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


@pytest.mark.parametrize("at", [0.0603, 0.0606])
def test_a_cancellation_during_the_grace(run, vt, at):
    """The caller is cancelled while a loser is seen out: it ends at once, and the loser goes on."""
    ended, late = [], []

    async def cleanup():
        await asyncio.sleep(1)
        ended.append(vt.now)

    call, hedge = hedged(cleanup, discard=late.append)

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call())
        loop.call_at(loop.time() + at, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vt.now < 0.1
        await asyncio.sleep(2)

    run(main)
    assert len(ended) == 1
    assert late == ["copy"]
    assert_no_leaks(hedge)


def test_the_end_of_the_loop_ends_what_is_seen_out(vt):
    """asyncio.run cancels a loser that still cleans up, and waits for it, as for any task."""
    seen = []

    async def cleanup():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    call, hedge = hedged(cleanup)

    async def main():
        await winner(vt, call)

    vt.run(main)
    assert seen == ["cancelled"]
    assert not kept()
    assert_no_leaks(hedge)


@pytest.mark.parametrize("before_it_begins", [True, False])
def test_a_loser_that_is_cancelled_in_its_own_task(run, vt, before_it_begins):
    """Somebody who cancels all tasks reaches a loser, too: its cleanup sees the cancellation where it waits."""
    seen = []

    async def cleanup():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    call, hedge = hedged(cleanup)

    async def main():
        await winner(vt, call)
        if not before_it_begins:
            await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.1)

    run(main)
    assert seen == ["cancelled"]
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


@pytest.mark.parametrize("cleanup", [in_timeout, in_task_group, in_cancel_scope])
def test_cleanup_that_knows_its_task_stays_in_it(run, vt, cleanup):
    """A timeout, a task group or a cancel scope around the cleanup works, and cancels nobody afterwards."""
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
    """A timeout that the primary was begun in stays in its task, too, and does not cancel the caller later on."""

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


def test_a_cancellation_reaches_cleanup_that_stays(run, vt):
    """Who is cancelled while cleanup stays in his task cancels the cleanup, as without a hedge, and is cancelled."""
    call, hedge = hedged(in_task_group)

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(call())
        loop.call_later(0.1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert vt.now < 0.15
        await asyncio.sleep(1)
        assert not kept()

    run(main)
    assert_no_leaks(hedge)


def test_a_guarded_call_in_the_cleanup_moves_along(run, vt):
    """A timeout of ours inside of the cleanup ends the cleanup in its new task, and leaves the caller alone."""
    seen = []

    @timeout(0.5)
    async def close():
        await asyncio.sleep(10)

    async def cleanup():
        try:
            await close()
        except TimeoutError:
            seen.append((vt.now, asyncio.current_task().cancelling()))
            raise

    call, hedge = hedged(cleanup)

    async def main():
        assert await winner(vt, call) == WINS
        await asyncio.sleep(20)
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert seen == [(pytest.approx(0.56, abs=0.01), 0)]
    assert_no_leaks(hedge)


def test_context_variables_of_the_cleanup(run, vt):
    """A token of before is good in a cleanup that has been moved: it runs in the caller's context."""
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
        assert await winner(vt, call) == WINS
        await asyncio.sleep(2)
        assert variable.get() == "before"

    run(main)
    assert seen == ["inside"]


def test_strange_things_in_the_way(run, vt):
    """Generators, asynchronous ones and awaitables of one's own between the call and its cleanup move along."""
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
        assert await winner(vt, call) == WINS
        await asyncio.sleep(3)

    run(main)
    assert done == [True]


def test_a_nested_hedge_that_is_superseded_while_its_copy_runs(run, vt):
    """An outer copy wins over a primary whose own hedge has a copy: that one is cancelled, and cancels nobody."""
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
    """An outer copy wins over a primary whose own hedge runs a copy, all in one pipeline: nobody waits for cleanups."""
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
        assert await winner(vt, call) == WINS
        assert pool.snapshot().inflight == 2
        await asyncio.sleep(20)
        assert pool.snapshot().inflight == 0
        assert asyncio.current_task().cancelling() == 0

    run(main)
    assert len(begun) == 3
    assert_no_leaks(outer, inner, pool)
