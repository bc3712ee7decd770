"""The bulkhead's numbered scenarios: what others got wrong, one promise each."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from resilio import bulkhead
from resilio._backends import park
from resilio._native.core import Waiter
from resilio.errors import BulkheadFullError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def waiting(capacity=1, **options):
    """A bulkhead in which many may wait for long."""
    return bulkhead(capacity, **{"max_queued": 100, "max_wait": 60.0, **options})


def exactly_free(limit, capacity):
    """Every permit is there, once: so many and no more can be taken, and are given back."""
    permits = [limit.try_acquire() for _ in range(capacity + 1)]
    assert [bool(permit) for permit in permits] == [True] * capacity + [False]
    for permit in permits[:-1]:
        permit.success()
    assert_no_leaks()


# ---- BH-01, BH-02: cancelled while running, cancelled in the queue ---------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("form", ["decorator", "block", "acall"])
def test_bh01_a_call_cancelled_while_it_runs_gives_its_permit_back(vt, backend, form):
    """BH-01: however the call is guarded, a cancellation in the callee costs no capacity."""
    limit = bulkhead(2)

    async def block():
        async with limit:
            await anyio.sleep_forever()

    guarded = limit(anyio.sleep_forever)
    run = {"decorator": guarded, "block": block, "acall": lambda: limit.acall(anyio.sleep_forever)}[form]

    async def main():
        for _ in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                group.start_soon(run)
                await anyio.sleep(1)
                assert limit.used == 2
                group.cancel_scope.cancel()
            assert limit.used == 0
        assert limit.snapshot().successes == limit.snapshot().failures == 0

    vt.run(main, backend=backend)
    exactly_free(limit, 2)


@BACKENDS
def test_bh02_a_call_cancelled_in_the_queue_costs_no_capacity(vt, backend):
    """BH-02: who gives up in the queue leaves nothing behind, and those after it move up."""
    limit = waiting(1)
    done = []

    async def call(name, scope):
        with scope, anyio.fail_after(1000):
            async with limit:
                await anyio.sleep(1)
                done.append(name)

    async def main():
        scopes = [anyio.CancelScope() for _ in range(6)]
        async with anyio.create_task_group() as group:
            for name, scope in enumerate(scopes):
                group.start_soon(call, name, scope)
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.5)
            assert limit.snapshot().queued == 5
            for name in (1, 3, 5):
                scopes[name].cancel()
            await anyio.sleep(0.1)
            assert limit.snapshot().queued == 2
        assert done == [0, 2, 4]
        assert vt.now == pytest.approx(3.0)

    vt.run(main, backend=backend)
    exactly_free(limit, 1)


# ---- BH-03: cancelled exactly at the grant ---------------------------------------------------------------------------


def test_bh03_a_waiter_cancelled_in_the_tick_of_its_grant_passes_the_permit_on(vt):
    """BH-03: on asyncio, release and cancel in one tick: the permit goes to the next waiter, and is not lost."""
    limit = waiting(1)

    async def main():
        held = limit.try_acquire()
        first, second = (asyncio.ensure_future(limit.aacquire()) for _ in range(2))
        await asyncio.sleep(0)
        held.success()
        assert limit.used == 1, "granted ..."
        assert limit.snapshot().inflight == 0, "... and not yet taken: this is the race"
        first.cancel()
        (await second).success()
        with pytest.raises(asyncio.CancelledError):
            await first

    vt.run(main)
    exactly_free(limit, 1)


@BACKENDS
@pytest.mark.parametrize("order", ["grant first", "cancel first"])
def test_bh03_grant_and_cancellation_in_one_step_lose_no_permit(vt, backend, order):
    """BH-03: on both event loops, in either order, capacity is whole afterwards and the next one is served."""
    limit = waiting(1)
    seen = []

    async def call(name, scope):
        with scope:
            async with limit:
                seen.append(name)
                await anyio.sleep(1)

    async def main():
        held = limit.try_acquire()
        scopes = [anyio.CancelScope(), anyio.CancelScope()]
        async with anyio.create_task_group() as group:
            for name, scope in enumerate(scopes):
                group.start_soon(call, name, scope)
                await anyio.sleep(0.1)
            steps = [held.success, scopes[0].cancel]
            for step in steps if order == "grant first" else reversed(steps):
                step()
        assert 1 in seen

    vt.run(main, backend=backend)
    exactly_free(limit, 1)


@BACKENDS
@pytest.mark.parametrize("offset", [-1e-6, 0.0, 1e-6])
def test_bh03_a_grant_at_the_moment_of_the_timeout_loses_no_permit(vt, backend, offset):
    """BH-03: the permit comes when the longest wait ends: the call is admitted or rejected, capacity is whole."""
    limit = waiting(1, max_wait=1.0)
    fates = []

    async def call():
        try:
            async with limit:
                fates.append("admitted")
        except BulkheadFullError as error:
            fates.append(error.reason)

    async def main():
        held = limit.try_acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(1.0 + offset)
            held.success()

    vt.run(main, backend=backend)
    assert fates in (["admitted"], ["wait"])
    assert offset == 0.0 or fates == ["admitted" if offset < 0 else "wait"]
    exactly_free(limit, 1)


@BACKENDS
def test_bh03_many_timeouts_of_the_caller_at_the_grant_lose_no_permit(vt, backend):
    """BH-03: callers give up at the very times at which permits come, again and again; none is lost."""
    limit = waiting(2)
    outcomes = []

    async def call(patience):
        with anyio.move_on_after(patience) as scope:
            async with limit:
                await anyio.sleep(1)
        outcomes.append(scope.cancelled_caught)

    async def main():
        async with anyio.create_task_group() as group:
            for index in range(60):
                group.start_soon(call, float(index % 7))

    vt.run(main, backend=backend)
    assert len(outcomes) == 60
    assert any(outcomes)
    exactly_free(limit, 2)


# ---- BH-04: one object, several event loops --------------------------------------------------------------------------


@BACKENDS
def test_bh04_one_bulkhead_outlives_its_event_loops(backend):
    """BH-04: contention in one run, then in another: nothing is bound to the first loop."""
    limit = waiting(1)
    peak = []

    @limit
    async def call():
        peak.append(limit.used)
        await anyio.lowlevel.checkpoint()

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call)

    for _ in range(2):
        anyio.run(main, backend=backend)
    assert peak == [1] * 10
    exactly_free(limit, 1)


@pytest.mark.untraced
def test_bh04_the_cap_is_that_of_the_process():
    """BH-04: two asyncio loops, a trio run and a plain thread share one cap, exactly, and wake each other."""
    limit = waiting(2, max_queued=1000)
    inside, peak, contended, lock = [0], [0], [0], threading.Lock()

    def enter():
        with lock:
            inside[0] += 1
            peak[0] = max(peak[0], inside[0])
            contended[0] += limit.snapshot().queued > 0

    def leave():
        with lock:
            inside[0] -= 1

    async def call():
        async with limit:
            enter()
            await anyio.sleep(0.0002)
            leave()

    async def calls():
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(call)

    def blocking():
        for _ in range(60):
            with limit:
                enter()
                leave()

    start = threading.Barrier(4)

    def run(work: Callable[..., object], *args):
        start.wait()
        work(*args)

    work = [(anyio.run, calls), (anyio.run, calls), (lambda: anyio.run(calls, backend="trio"),), (blocking,)]
    threads = [threading.Thread(target=run, args=args) for args in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit.snapshot().successes == 240
    assert peak[0] == 2
    assert contended[0] > 0, "nobody had to wait: the threads did not race"
    exactly_free(limit, 2)


# ---- BH-05: no checkpoint on the way out -----------------------------------------------------------------------------


def run_without_a_loop(coroutine):
    """Run a coroutine that must not suspend."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value


def test_bh05_an_uncontended_block_never_suspends():
    """BH-05: entering with a free permit and leaving are no checkpoints: no event loop is needed."""
    limit = waiting(1)

    async def block():
        async with limit:
            pass
        async with limit.permit() as permit:
            permit.success()
        return "done"

    assert run_without_a_loop(block()) == "done"
    exactly_free(limit, 1)


@BACKENDS
def test_bh05_a_contended_release_never_suspends(vt, backend):
    """BH-05: a release that hands the permit on is no checkpoint either, so a cancelled task always gets there."""
    limit = waiting(1)
    order = []

    async def waiter():
        async with limit:
            order.append("waiter")

    async def holder():
        async with limit:
            await anyio.sleep(1)
            scope.cancel()
            order.append("leaving, cancelled")
        order.append("left")
        await anyio.lowlevel.checkpoint()
        order.append("never")

    async def main():
        nonlocal scope
        async with anyio.create_task_group() as group:
            group.start_soon(waiter_later)
            with anyio.CancelScope() as scope:
                await holder()

    async def waiter_later():
        await anyio.sleep(0.5)
        await waiter()

    scope = None
    vt.run(main, backend=backend)
    assert order == ["leaving, cancelled", "left", "waiter"]
    exactly_free(limit, 1)


# ---- BH-06: order, weights, resize, close ----------------------------------------------------------------------------


async def queue_up(limit, group, names, entered, *, weights=None, hold=1.0):
    """Start one call for each name, in order."""

    async def call(name, weight):
        try:
            async with limit.permit(weight):
                entered.append(name)
                await anyio.sleep(hold)
        except BulkheadFullError as error:
            entered.append(f"{name}: {error.reason}")

    for name in names:
        group.start_soon(call, name, (weights or {}).get(name, 1))
        await anyio.sleep(0.001)


@BACKENDS
@pytest.mark.parametrize(("order", "expected"), [("fifo", "abcde"), ("lifo", "aedcb"), ("adaptive", "abcde")])
def test_bh06_the_queue_is_served_in_its_order(vt, backend, order, expected):
    """BH-06: fifo serves the oldest, lifo the newest, adaptive the oldest while the queue drains in time."""
    limit = waiting(1, order=order)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abcde", entered)

    vt.run(main, backend=backend)
    assert "".join(entered) == expected


@BACKENDS
def test_bh06_the_newest_goes_first_even_if_it_came_after_the_last_grant(vt, backend):
    """BH-06: whose turn it is, is decided when a permit is there, not before."""
    limit = waiting(1, order="lifo")
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abc", entered)
            await anyio.sleep(1.5)
            await queue_up(limit, group, "d", entered)

    vt.run(main, backend=backend)
    assert entered == ["a", "c", "d", "b"]


@BACKENDS
@pytest.mark.parametrize("options", [{"max_wait": 4.0}, {"max_queued": 7}], ids=["head waits long", "half full"])
def test_bh06_an_adaptive_queue_turns_round_under_overload(vt, backend, options):
    """BH-06: when the head has waited for half of max_wait, or the queue is half full, the newest are served."""
    limit = waiting(1, order="adaptive", **options)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abcde", entered, hold=1.1 if "max_wait" in options else 1.0)

    vt.run(main, backend=backend)
    served = "".join(name for name in entered if len(name) == 1)
    assert served == {4.0: "abedc"[: len(served)], 7: "aebcd"}[next(iter(options.values()))]


@BACKENDS
def test_bh06_nobody_barges(vt, backend):
    """BH-06: a newcomer never passes somebody who queues, also if a permit is free that only it can use."""
    limit = waiting(3, weight=lambda weight=1: weight)
    entered = []

    async def main():
        held = limit.try_acquire(2)
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, ["heavy", "light"], entered, weights={"heavy": 2})
            assert limit.available == 1
            rejection = limit.try_acquire(1)
            assert not rejection
            assert rejection.reason == "full"
            assert entered == []
            held.success()
            await anyio.sleep(0.1)
            assert sorted(entered) == ["heavy", "light"]  # trio starts those woken together in any order

    vt.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize("order", ["fifo", "lifo", "adaptive"])
def test_bh06_a_heavy_call_whose_turn_has_come_is_not_overtaken(vt, backend, order):
    """BH-06: light calls that keep coming do not starve a heavy one, in any order, once it has been chosen."""
    limit = waiting(2, weight=lambda weight=1: weight, order=order)
    entered = []

    async def main():
        first, second = limit.try_acquire(1), limit.try_acquire(1)
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, ["heavy"], entered, weights={"heavy": 2})
            first.success()  # its turn; it does not fit yet
            await queue_up(limit, group, ["l1", "l2", "l3"], entered)
            assert entered == []
            second.success()
            await anyio.sleep(0.1)
            assert entered == ["heavy"]

    vt.run(main, backend=backend)
    assert len(entered) == 4


@BACKENDS
def test_bh06_the_waiting_room_is_bounded(vt, backend):
    """BH-06: beyond max_queued a call is rejected at once, with the length of the queue."""
    limit = waiting(1, max_queued=2)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abc", entered)
            with pytest.raises(BulkheadFullError) as rejected:
                await limit.aacquire()
            error = rejected.value
            assert (error.reason, error.measured, error.limit) == ("queue_full", 2, 2)

    vt.run(main, backend=backend)
    assert entered == ["a", "b", "c"]


@BACKENDS
def test_bh06_a_wait_has_an_end(vt, backend):
    """BH-06: after max_wait a call is rejected, with how long it waited, and those behind it move up."""
    limit = waiting(1, max_wait=2.0)

    async def main():
        held = limit.try_acquire()
        before = vt.now
        with pytest.raises(BulkheadFullError) as rejected:
            await limit.aacquire()
        error = rejected.value
        assert (error.reason, error.limit) == ("wait", 2.0)
        assert error.measured == pytest.approx(2.0)
        assert vt.now - before == pytest.approx(2.0)
        held.success()

    vt.run(main, backend=backend)
    exactly_free(limit, 1)


@pytest.mark.parametrize("options", [{}, {"max_wait": 0}, {"max_queued": 5, "max_wait": 0.0}])
def test_bh06_without_a_wait_a_free_permit_is_taken_without_yielding(options):
    """BH-06: max_wait=0 admits at once where there is room, and rejects at once where there is none."""
    limit = bulkhead(1, **options)

    async def take():
        return await limit.aacquire()

    permit = run_without_a_loop(take())
    with pytest.raises(BulkheadFullError, match="full"):
        take().send(None)
    permit.success()
    exactly_free(limit, 1)


@BACKENDS
def test_bh06_growing_admits_as_many_as_fit(vt, backend):
    """BH-06: a resize upwards hands out the new permits at once, in order."""
    limit = waiting(1)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abcde", entered)
            limit.resize(3)
            await anyio.sleep(0.01)
            assert sorted(entered) == ["a", "b", "c"]  # trio starts those woken together in any order
            assert limit.snapshot().limit == 3

    vt.run(main, backend=backend)
    exactly_free(limit, 3)


@BACKENDS
def test_bh06_shrinking_lets_the_running_ones_finish(vt, backend):
    """BH-06: a resize downwards interrupts nobody; new calls wait until the number is below the new limit."""
    limit = waiting(3)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abcd", entered)
            limit.resize(1)
            assert limit.available == -2
            await anyio.sleep(0.9)
            assert entered == ["a", "b", "c"]
            await anyio.sleep(0.2)
            assert entered == ["a", "b", "c", "d"]
            assert limit.used == 1

    vt.run(main, backend=backend)
    exactly_free(limit, 1)


@BACKENDS
def test_bh06_shrinking_rejects_who_can_never_be_admitted(vt, backend):
    """BH-06: a call in the queue that is heavier than the new limit is rejected, and does not block the rest."""
    limit = waiting(3, weight=lambda weight=1: weight)
    entered = []

    async def main():
        held = limit.try_acquire(2)
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, ["heavy", "light"], entered, weights={"heavy": 3})
            limit.resize(2)
            await anyio.sleep(0.01)
            assert entered == ["heavy: too_heavy"]
            held.success()
        assert entered == ["heavy: too_heavy", "light"]

    vt.run(main, backend=backend)


@BACKENDS
def test_bh06_closing_rejects_the_queue_and_waits_for_the_rest(vt, backend):
    """BH-06: close rejects new and queued calls with its own reason; wait_closed returns when the last has ended."""
    limit = waiting(2)
    entered = []

    async def main():
        async with anyio.create_task_group() as group:
            await queue_up(limit, group, "abc", entered)
            limit.close()
            with pytest.raises(BulkheadFullError) as rejected:
                await limit.aacquire()
            assert rejected.value.reason == "closed"
            assert limit.snapshot().state == "closed_down"
            assert not limit.health()
            assert not await limit.wait_closed(timeout=0.1)
            assert entered == ["a", "b", "c: closed"]
            assert await limit.wait_closed()
            assert limit.used == 0
            assert vt.now == pytest.approx(1.001, abs=0.01)

    vt.run(main, backend=backend)
    limit.resume()
    exactly_free(limit, 2)


def test_bh06_a_thread_can_drain(vt):
    """BH-06: drain blocks a thread until the last permit is back, or its time is up."""
    limit = waiting(1)
    permit = limit.try_acquire()
    assert not limit.drain(timeout=1.0)
    assert vt.now == pytest.approx(1.0)
    ended = []
    drain = threading.Thread(target=lambda: ended.append(limit.drain()))
    drain.start()
    vt.advance(1.0)
    assert ended == []
    permit.success()
    drain.join()
    assert ended == [True]


@BACKENDS
def test_bh06_draining_by_blocking_the_event_loop_is_rejected(vt, backend):
    """BH-06: drain in a running event loop could never end: it says what to use."""

    async def main():
        with pytest.raises(RuntimeError, match="adrain"):
            bulkhead(1).drain()

    vt.run(main, backend=backend)


# ---- BH-07: the caller's context -------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("contended", [False, True])
def test_bh07_a_context_variable_set_in_the_call_reaches_the_caller(vt, backend, contended):
    """BH-07: the callee runs in the caller's own context, also after it had to wait."""
    variable = contextvars.ContextVar("variable", default="unset")
    limit = waiting(1)

    @limit
    async def call():
        await anyio.lowlevel.checkpoint()
        variable.set("set by the callee")

    async def main():
        held = limit.try_acquire() if contended else None
        async with anyio.create_task_group() as group:
            if held is not None:
                group.start_soon(end_later, held)
            await call()
            assert variable.get() == "set by the callee"

    async def end_later(permit):
        await anyio.sleep(1)
        permit.success()

    vt.run(main, backend=backend)


# ---- the queue's cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiters", [10, 10_000])
def test_a_release_wakes_one_waiter_however_many_there_are(waiters):
    """A grant is O(1): one permit back is one waiter woken, whoever else waits."""
    limit = waiting(1, max_queued=waiters)
    woken = []

    class CountingLoop(asyncio.SelectorEventLoop):
        def call_soon(self, *args, **kwargs):
            woken.append(args[0])
            return super().call_soon(*args, **kwargs)

    async def main():
        permit = limit.try_acquire()
        tasks = [asyncio.ensure_future(limit.aacquire()) for _ in range(waiters)]
        await asyncio.sleep(0)
        assert limit.snapshot().queued == waiters
        for task in tasks[:5]:
            woken.clear()
            permit.success()
            permit = await task
            assert len(woken) <= 3, woken
        for task in tasks:
            task.cancel()
        permit.success()
        await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(main())
    exactly_free(limit, 1)


@BACKENDS
def test_a_watcher_that_stops_to_wait_is_forgotten(vt, backend):
    """Somebody who gives up waiting for the end of all calls is woken no more, and nobody else is disturbed."""
    limit = waiting(1)

    async def main():
        permit = limit.try_acquire()
        with anyio.move_on_after(1):
            await limit.wait_closed()
        waiter = Waiter()
        assert limit._gate.watch(waiter)
        limit._gate.unwatch(waiter)
        permit.success()
        with anyio.move_on_after(1) as scope:
            await park(waiter, None)
        assert scope.cancelled_caught
        assert not limit._gate.watch(waiter)

    vt.run(main, backend=backend)
