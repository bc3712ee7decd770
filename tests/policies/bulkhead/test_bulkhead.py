"""What a bulkhead promises beyond the numbered scenarios."""

from __future__ import annotations

import gc
import math
import os
import re
from datetime import timedelta

import anyio
import pytest

from resilio import events
from resilio._policies.bulkhead.policy import bulkhead
from resilio.errors import BulkheadFullError
from resilio.testing import assert_no_leaks, no_wait, record_events

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def waiting(capacity=1, **options):
    """A bulkhead in which many may wait for long."""
    return bulkhead(capacity, **{"max_queued": 100, "max_wait": 60.0, **options})


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_concurrent", [0, -1, 10**10, True, 1.0, math.nan, "2", None]),
        ("max_queued", [-1, 10**10, True, 1.5, math.inf, "2"]),
        ("max_wait", [-1, math.nan, math.inf, True, 1e12, "2", timedelta(seconds=-1)]),
        ("order", ["FIFO", "random", "", 1, None]),
        ("weight", [0, -1, True, 1.5, "heavy", None, 10**10]),
        ("enforce", [-0.1, 1.1, math.nan, "yes", None]),
        ("name", ["", " x", 5, "x" * 300]),
    ],
)
def test_a_bad_option_is_rejected_by_name_and_value(name, values):
    """Whatever makes no sense is rejected at construction, with what it was and what it should be."""
    for value in values:
        options = {"max_concurrent": 2, "max_queued": 1, "max_wait": 1.0, name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be .*, not {re.escape(repr(value)[:40])}"):
            bulkhead(**options)


def test_options_that_contradict_are_rejected():
    """A queue needs a longest wait, a wait needs a queue, and no call may weigh more than there is."""
    with pytest.raises(ValueError, match=r"max_wait must be how long.*max_queued=3.*not None"):
        bulkhead(1, max_queued=3)
    with pytest.raises(ValueError, match=r"max_wait must be 0 or left out.*not 2\.0"):
        bulkhead(1, max_wait=2)
    with pytest.raises(ValueError, match=r"weight must be at most max_concurrent=2.*not 3"):
        bulkhead(2, weight=3)
    limit = bulkhead(5, weight=3)
    with pytest.raises(ValueError, match="weight"):
        limit.resize(2)
    assert limit.config.max_concurrent == 5


def test_used_bare_it_says_what_to_write():
    """@bulkhead without options is an error that shows the right form."""
    with pytest.raises(TypeError, match=re.escape("write @bulkhead(10)")):

        @bulkhead
        def call():
            pass


def test_one_name_is_one_bulkhead():
    """The same name and options give the same object; other options are rejected."""
    limit = bulkhead(3, name="rooms", max_queued=1, max_wait=timedelta(seconds=2))
    assert bulkhead(3, name="rooms", max_queued=1, max_wait=2.0) is limit
    with pytest.raises(ValueError, match="max_concurrent=3 against 4"):
        bulkhead(4, name="rooms", max_queued=1, max_wait=2.0)


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_a_weight_takes_and_gives_back_so_many_permits():
    """A constant weight counts for each call, a function's for the call whose arguments it saw."""
    limit = bulkhead(5, weight=2)
    first, second = limit.try_acquire(), limit.try_acquire()
    assert limit.used == 4
    assert not limit.try_acquire()
    first.success()
    second.ignore()
    assert limit.available == 5
    limit.reconfigure(weight=lambda *, size: size)
    permit = limit.try_acquire(size=5)
    assert limit.used == 5
    limit.reconfigure(weight=1)
    permit.success()
    assert limit.used == 0


def test_a_weight_function_sees_the_call_as_it_is():
    """Positional and keyword arguments, self included, arrive unchanged."""
    seen = []

    def weigh(*args, **kwargs):
        seen.append((args, kwargs))
        return 1

    class Client:
        @bulkhead(2, weight=weigh)
        def fetch(self, path, *, retries=0):
            return path, retries

    client = Client()
    assert client.fetch("/", retries=3) == ("/", 3)
    assert seen == [((client, "/"), {"retries": 3})]


@pytest.mark.parametrize("nonsense", [0, -5, 1.0, True, None, "2", math.nan])
def test_a_weight_that_makes_no_sense_counts_as_one(nonsense):
    """What a weight function says wrong never decides over the call; it is counted."""
    limit = bulkhead(2, weight=lambda: nonsense)
    assert limit.call(lambda: limit.used) == 1
    assert limit.weight_errors == 1
    assert limit.used == 0


@pytest.mark.parametrize("error", [ValueError, SystemExit, GeneratorExit])
def test_a_raising_weight_function_changes_nothing(error):
    """A weight function that raises, whatever it is, costs neither the call nor a permit."""

    def weigh():
        raise error

    limit = bulkhead(2, weight=weigh)
    assert limit.call(lambda: "result") == "result"
    assert limit.weight_errors == 1
    assert limit.used == 0


@pytest.mark.untraced
def test_ctrl_c_in_a_weight_function_is_not_lost():
    """KeyboardInterrupt belongs to the user: it comes again at the next safe point."""

    def weigh():
        raise KeyboardInterrupt

    limit = bulkhead(2, weight=weigh)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            limit.call(int)
    assert limit.used == 0


@pytest.mark.parametrize("weight", [3, 2 * 10**9, 10**30])
def test_a_call_heavier_than_the_bulkhead_is_rejected_at_once(weight):
    """What could never be admitted does not wait: a reason of its own."""
    limit = waiting(2, weight=lambda: weight)
    with pytest.raises(BulkheadFullError) as rejected:
        limit.acquire()
    assert rejected.value.reason == "too_heavy"
    assert rejected.value.limit == 2
    assert limit.weight_errors == 0


def test_a_rejection_after_a_wait_says_the_limit_that_was_given(vt):
    """0.3 s are 0.3, not the nearest number to their nanoseconds."""
    limit = bulkhead(1, max_queued=1, max_wait=0.3)
    held = limit.acquire()
    with pytest.raises(BulkheadFullError) as caught:
        limit.acquire()
    assert (caught.value.reason, caught.value.limit) == ("wait", 0.3)
    held.success()


# ---- shadow mode -----------------------------------------------------------------------------------------------------


def test_in_shadow_mode_nobody_waits_and_nobody_is_rejected(vt):
    """Calls beyond the limit pass, hold nothing, and are counted as what would have become of them."""
    limit = waiting(1, max_queued=1, enforce=False)
    held = limit.try_acquire()
    beyond = [limit.acquire() for _ in range(3)]
    snapshot = limit.snapshot()
    assert (snapshot.inflight, snapshot.queued, snapshot.would_wait, snapshot.would_reject) == (1, 0, 3, 0)
    for permit in beyond:
        permit.success()
    assert limit.used == 1
    held.success()
    assert limit.used == 0
    assert vt.now == 0


def test_in_shadow_mode_without_a_queue_rejections_are_counted():
    """What would have been rejected is told apart from what would have waited."""
    limit = bulkhead(1, enforce=False)
    with limit:
        assert limit.call(lambda: "passes") == "passes"
    snapshot = limit.snapshot()
    assert (snapshot.would_wait, snapshot.would_reject, snapshot.rejected) == (0, 1, 0)


def test_a_share_is_enforced_exactly():
    """enforce=0.25 rejects a quarter of what it would, without randomness."""
    limit = bulkhead(1, enforce=0.25)
    with limit:
        passed = sum(bool(limit.try_acquire()) for _ in range(100))
    assert passed == 75
    assert limit.snapshot().rejected == 25


# ---- changes by hand -------------------------------------------------------------------------------------------------


@BACKENDS
def test_reconfiguring_keeps_who_holds_and_who_waits(vt, backend):
    """Options change under load: nobody is lost, and newcomers meet the new rules."""
    limit = waiting(1)
    order = []

    async def call(name):
        async with limit:
            order.append(name)
            await anyio.sleep(1)

    async def main():
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(call, name)
                await anyio.sleep(0.001)
            limit.reconfigure(max_queued=0, max_wait=None)
            with pytest.raises(BulkheadFullError) as rejected:
                await limit.aacquire()
            assert rejected.value.reason == "full"
            limit.reconfigure(order="lifo")
        assert order == ["a", "c", "b"]

    vt.run(main, backend=backend)


@BACKENDS
def test_closing_is_one_event_and_one_line(vt, backend, caplog):
    """A bulkhead that closes down, and admits again, says so once each."""
    limit = bulkhead(2, name="rooms")

    async def main():
        await limit.aclose()
        limit.close()
        assert len(caplog.records) == 1  # at once: no call comes that would deliver it
        limit.resume()
        limit.resume()

    with record_events() as recorded, caplog.at_level("INFO"):
        vt.run(main, backend=backend)
    changes = [event for event in recorded if isinstance(event, events.StateChanged)]
    assert [(change.old, change.new, change.reason) for change in changes] == [
        ("admitting", "closed_down", "closed"),
        ("closed_down", "admitting", "resumed"),
    ]
    assert len(caplog.records) == 2


def test_a_dropped_permit_goes_back():
    """A permit that is forgotten, in a cycle too, is given back by the collector, to whoever waits."""
    limit = bulkhead(1)

    class Holder:
        def __init__(self):
            self.permit, self.me = limit.try_acquire(), self

    Holder()
    gc.collect()
    assert limit.used == 0
    assert limit.snapshot().ignored == 1


@BACKENDS
def test_a_dropped_waiter_leaves_the_queue(vt, backend):
    """A coroutine that waits and is closed, as at the end of a loop, holds no place."""
    limit = waiting(1)

    async def main():
        with limit:
            async with anyio.create_task_group() as group:
                group.start_soon(limit.aacquire)
                await anyio.sleep(1)
                assert limit.snapshot().queued == 1
                group.cancel_scope.cancel()
        assert limit.snapshot().queued == 0

    vt.run(main, backend=backend)
    assert_no_leaks()


@BACKENDS
def test_no_wait_rejects_instead_of_waiting(vt, backend):
    """In a test's no_wait() block a wait ends at once, as if its time had passed."""
    limit = waiting(1)

    async def main():
        with limit, no_wait(), pytest.raises(BulkheadFullError) as rejected:
            await limit.aacquire()
        assert rejected.value.reason == "wait"
        assert vt.now == 0

    vt.run(main, backend=backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_starts_empty():
    """In the child no permit is held; what is inherited says nothing there, and the parent loses nothing."""
    limit = bulkhead(2)
    held = [limit.try_acquire(), limit.try_acquire()]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            fresh = [limit.try_acquire(), limit.try_acquire()]
            held.pop().success()
            status = 0 if all(fresh) and limit.used == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert limit.used == 2
    for permit in held:
        permit.success()


# ---- map -------------------------------------------------------------------------------------------------------------


class Work:
    """An async function that knows how many of its calls run, and how many there were."""

    def __init__(self, *, fails_at=None, seconds=lambda item: 1.0):
        self.running = self.peak = self.begun = self.cancelled = 0
        self.fails_at, self.seconds = fails_at, seconds

    async def __call__(self, item):
        self.begun += 1
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await anyio.sleep(self.seconds(item))
            if item == self.fails_at:
                raise LookupError(item)
            return item * item
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@BACKENDS
def test_map_gives_results_in_order_within_the_limit(vt, backend):
    """Every item is called once, at most max_concurrent at a time, whatever the queue's bound."""
    limit, work = bulkhead(3), Work(seconds=lambda item: 1.0 + item % 3)
    assert vt.run(lambda: _list(limit.map(work, range(10))), backend=backend) == [i * i for i in range(10)]
    assert (work.peak, work.begun) == (3, 10)
    assert limit.snapshot().successes == 10
    assert limit.snapshot().rejected == 0
    assert_no_leaks()


async def _list(mapped):
    return await mapped


@BACKENDS
def test_map_can_give_results_as_they_come(vt, backend):
    """Without order the quick ones come first."""
    limit, work = bulkhead(3), Work(seconds=lambda item: 10.0 - item)
    assert vt.run(lambda: _list(limit.map(work, range(3), ordered=False)), backend=backend) == [4, 1, 0]


@BACKENDS
def test_map_makes_no_task_before_it_has_a_permit(vt, backend):
    """One item is read ahead of the permits: nothing piles up, not even with an infinite source."""
    limit, work = bulkhead(2), Work()
    read = []

    def items():
        for item in range(10**9):
            read.append(item)
            yield item

    async def main():
        async with limit.map(work, items()) as results:
            async for result in results:
                assert work.running <= 2
                assert len(read) - work.begun <= 3  # two that have a permit and are about to begin, and one that waits
                if result == 25:
                    break
        assert work.running == 0
        assert len(read) <= 10

    vt.run(main, backend=backend)
    assert_no_leaks()


@BACKENDS
def test_map_does_not_run_away_from_a_slow_reader(vt, backend):
    """At most *buffer* results wait for whoever reads them."""
    limit, work = bulkhead(2), Work(seconds=lambda item: 0.01)

    async def main():
        async with limit.map(work, range(100), buffer=5) as results:
            async for result in results:
                await anyio.sleep(1)
                assert work.begun <= math.isqrt(result) + 1 + 5
                if result == 81:
                    return

    vt.run(main, backend=backend)


@BACKENDS
def test_map_cancels_the_rest_when_a_call_fails(vt, backend):
    """The first exception comes out as it is; calls under way are cancelled, none begins, no permit is lost."""
    limit, work = bulkhead(3), Work(fails_at=4)

    async def main():
        with pytest.raises(LookupError, match="4"):
            await limit.map(work, range(100))
        assert work.running == 0
        assert work.begun < 10

    vt.run(main, backend=backend)
    assert limit.snapshot().failures == 1
    assert limit.used == 0
    assert_no_leaks()


@BACKENDS
def test_an_exception_of_the_reader_passes_as_it_is(vt, backend):
    """What the block raises is not wrapped in a group, and ends the calls."""
    limit, work = bulkhead(3), Work()

    async def main():
        with pytest.raises(ZeroDivisionError):
            async with limit.map(work, range(100)) as results:
                async for _ in results:
                    raise ZeroDivisionError
        assert work.running == 0

    vt.run(main, backend=backend)
    assert_no_leaks()


@BACKENDS
def test_a_cancelled_map_ends_its_calls(vt, backend):
    """A cancellation from outside reaches the calls; the map is over when it has returned."""
    limit, work = bulkhead(3), Work()

    async def main():
        with anyio.move_on_after(1.5) as scope:
            await limit.map(work, range(100))
        assert scope.cancelled_caught
        assert (work.begun, work.cancelled, work.running) == (6, 3, 0)

    vt.run(main, backend=backend)
    assert limit.snapshot().failures == 0
    assert_no_leaks()


@BACKENDS
def test_map_reads_async_items_and_passes_on_what_they_raise(vt, backend):
    """A source that is slow is waited for, and one that breaks ends the map with its exception."""
    limit, work = bulkhead(10), Work()

    async def items():
        for item in range(4):
            await anyio.sleep(0.1)
            yield item
        raise EOFError

    async def main():
        results = None
        with pytest.raises(EOFError):
            async with limit.map(work, items()) as mapped:
                results = [result async for result in mapped]
        assert results is None
        assert work.running == 0

    vt.run(main, backend=backend)


@BACKENDS
def test_map_waits_in_the_queue_with_the_others(vt, backend):
    """A map has a place in the queue like a call: nobody barges past it, and it leaves room for others."""
    limit, work = waiting(1, max_queued=1), Work()
    order = []

    async def other():
        async with limit:
            order.append(vt.now)
            await anyio.sleep(1)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(_list, limit.map(work, range(3)))
            await anyio.sleep(0.1)
            group.start_soon(other)
        assert order == [pytest.approx(2.0)], "after the item that waited before it"
        assert vt.now == pytest.approx(4.0)

    vt.run(main, backend=backend)


@BACKENDS
def test_map_weighs_each_item(vt, backend):
    """The weight function sees the item, and an item that is too heavy ends the map with the rejection."""
    limit, work = bulkhead(4, weight=lambda item: item), Work()

    async def main():
        assert await limit.map(work, [4, 4, 2, 2]) == [16, 16, 4, 4]
        assert vt.now == pytest.approx(3.0)
        with pytest.raises(BulkheadFullError) as rejected:
            await limit.map(work, [1, 5])
        assert rejected.value.reason == "too_heavy"

    vt.run(main, backend=backend)
    assert limit.weight_errors == 0
    assert_no_leaks()


@BACKENDS
def test_map_ends_when_the_bulkhead_closes(vt, backend):
    """Items that still wait for a permit are rejected; the map raises that."""
    limit, work = bulkhead(1), Work()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(close_later)
            with pytest.raises(BulkheadFullError) as rejected:
                await limit.map(work, range(5))
            assert rejected.value.reason == "closed"

    async def close_later():
        await anyio.sleep(0.5)
        limit.close()

    vt.run(main, backend=backend)


@BACKENDS
def test_map_says_how_it_is_used(vt, backend):
    """What cannot work is an error that names the right form."""
    limit = bulkhead(1)

    async def main():
        assert await limit.map(Work(), []) == []
        with pytest.raises(TypeError, match="read in a block"):
            async for _ in limit.map(Work(), [1]):
                pass
        with pytest.raises(TypeError, match="fn must be an async function"):
            await limit.map(abs, [1])
        mapped = limit.map(Work(), [1])
        assert await mapped == [1]
        with pytest.raises(RuntimeError, match="begun already"):
            await mapped
        with pytest.raises(ValueError, match="buffer"):
            limit.map(Work(), [1], buffer=0)

    vt.run(main, backend=backend)
    assert_no_leaks()


@BACKENDS
def test_a_drain_that_was_woken_does_not_unhook_the_next_one(vt, backend):
    """A bulkhead empties, reopens and is drained again before the first drain goes on. Both return."""
    limit, ended = bulkhead(1), []

    async def drain():
        ended.append(await limit.wait_closed(timeout=60.0))

    async def main():
        first = limit.try_acquire()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            await anyio.sleep(1.0)
            first.success()  # wakes the drain, whose task goes on once this one waits
            second = limit.try_acquire()
            tasks.start_soon(end_later, second)
            assert await limit.wait_closed(timeout=60.0)
        assert ended == [True]
        assert vt.now < 30.0

    async def end_later(permit):
        await anyio.sleep(5.0)
        permit.success()

    vt.run(main, backend=backend)
    assert_no_leaks(limit)


def test_a_drain_that_gives_up_leaves_nothing_behind():
    """Its waiter goes with it; the bulkhead would keep it for as long as it is in use."""
    limit = bulkhead(1)
    permit = limit.try_acquire()
    assert [limit.drain(timeout=0.0) for _ in range(5)] == [False] * 5
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found).__name__ == "Waiter"]
    permit.success()
    assert limit.drain(timeout=0.0)
