"""The numbered scenarios of ambient deadlines: what others got wrong, one promise each."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from resilio import bulkhead, deadline, rate_limit, remaining
from resilio.errors import DeadlineExceededError
from resilio.testing import assert_no_leaks

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


# ---- TO-05: enforced -------------------------------------------------------------------------------------------------


@BACKENDS
def test_to05_an_async_block_is_interrupted_at_its_deadline(vt, backend):
    """TO-05: a body that would sleep for 0.4 s under a deadline of 0.1 s is interrupted after 0.1 s."""

    async def main():
        begun = vt.now
        with pytest.raises(DeadlineExceededError) as caught:
            async with deadline(0.1):
                await anyio.sleep(0.4)
        assert vt.now - begun == pytest.approx(0.1)
        assert caught.value.deadline == 0.1
        assert caught.value.remaining == pytest.approx(0.0, abs=1e-6)
        assert caught.value.called
        assert isinstance(caught.value, TimeoutError)

    vt.run(main, backend=backend)


@BACKENDS
def test_to05_a_block_that_ends_in_time_leaves_nothing(vt, backend):
    """TO-05: nothing is raised in time, and nothing interrupts what comes after the block."""

    async def main():
        async with deadline(0.2):
            await anyio.sleep(0.1)
        await anyio.sleep(1)
        assert remaining() is None

    vt.run(main, backend=backend)


@BACKENDS
def test_to05_cleanup_is_not_interrupted_again(vt, backend):
    """TO-05: what the body does on its way out may take its time on asyncio; trio's rule is trio's."""
    steps = []

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with deadline(0.1):
                try:
                    await anyio.sleep(10)
                finally:
                    with anyio.CancelScope(shield=backend == "trio"):
                        await anyio.sleep(0.5)
                    steps.append("cleaned up")

    vt.run(main, backend=backend)
    assert steps == ["cleaned up"]
    assert vt.now == pytest.approx(0.6)


# ---- TO-05: nested ---------------------------------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize(("outer", "inner", "left"), [(1.0, 5.0, 1.0), (5.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
def test_to05_nested_deadlines_only_shorten(vt, backend, outer, inner, left):
    """TO-05: inside of two deadlines the nearer holds, whichever it is; outside of the inner one the outer again."""

    async def main():
        async with deadline(outer):
            async with deadline(inner):
                assert remaining() == pytest.approx(left)
                with deadline(100):
                    assert remaining() == pytest.approx(left)
            assert remaining() == pytest.approx(outer)

    vt.run(main, backend=backend)


@BACKENDS
@pytest.mark.parametrize("inner", [1.0, 3.0])
def test_to05_of_two_that_tie_the_outer_block_raises(vt, backend, inner):
    """TO-05: an inner deadline that is not nearer than the outer never raises; code between sees none of it."""
    raised = []

    async def main():
        with pytest.raises(DeadlineExceededError) as caught:
            async with deadline(1.0):
                try:
                    async with deadline(inner):
                        await anyio.sleep(10)
                except DeadlineExceededError:
                    raised.append("inner")
        assert caught.value.deadline == 1.0

    vt.run(main, backend=backend)
    assert raised == []
    assert vt.now == pytest.approx(1.0)


@BACKENDS
def test_to05_an_inner_deadline_that_is_nearer_leaves_the_outer_block_going(vt, backend):
    """TO-05: after the inner block was interrupted the outer one goes on, until its own time."""

    async def main():
        with pytest.raises(DeadlineExceededError) as caught:
            async with deadline(1.0):
                with pytest.raises(DeadlineExceededError) as inner:
                    async with deadline(0.25):
                        await anyio.sleep(10)
                assert inner.value.deadline == 0.25
                await anyio.sleep(0.25)
                assert remaining() == pytest.approx(0.5)
                await anyio.sleep(10)
        assert caught.value.deadline == 1.0

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(1.0)


@BACKENDS
def test_to05_a_longer_block_enforces_the_deadline_of_a_sync_block_outside(vt, backend):
    """TO-05: a sync block interrupts nothing, so an async block inside is held to its time."""

    async def main():
        with deadline(0.5), pytest.raises(DeadlineExceededError) as caught:
            async with deadline(10.0):
                await anyio.sleep(20)
        assert caught.value.deadline == 0.5

    vt.run(main, backend=backend)
    assert vt.now == pytest.approx(0.5)


@BACKENDS
def test_to05_a_sync_block_between_does_not_hide_that_nobody_enforces_it(vt, backend):
    """TO-05: async 10 s, sync 1 s, async 5 s: the innermost is interrupted after 1 s, the outermost goes on."""

    async def main():
        async with deadline(10.0):
            with deadline(1.0), pytest.raises(DeadlineExceededError):
                async with deadline(5.0):
                    await anyio.sleep(20)
            assert remaining() == pytest.approx(9.0)

    vt.run(main, backend=backend)


# ---- TO-05: survives tasks and threads, unset is None ----------------------------------------------------------------


@BACKENDS
def test_to05_a_task_group_inherits_it_and_is_interrupted_as_a_whole(vt, backend):
    """TO-05: child tasks see the deadline, and end with the block that holds their group."""
    seen, cancelled = [], []

    async def child():
        seen.append(remaining())
        try:
            await anyio.sleep(10)
        finally:
            cancelled.append(vt.now)

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with deadline(0.5), anyio.create_task_group() as group:
                group.start_soon(child)
                group.start_soon(child)

    vt.run(main, backend=backend)
    assert seen == pytest.approx([0.5, 0.5])
    assert cancelled == pytest.approx([0.5, 0.5])


def test_to05_it_interrupts_a_task_group_of_asyncio(vt):
    """TO-05: around `asyncio.TaskGroup` the block raises the deadline, and no cancellation is left over."""

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with deadline(0.5), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                await asyncio.sleep(10)
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)


@BACKENDS
def test_to05_a_child_task_enforces_what_it_inherited_itself(vt, backend):
    """TO-05: an async block in a child task is interrupted at the inherited deadline, without its parent."""
    ended = []

    async def child():
        with pytest.raises(DeadlineExceededError):
            async with deadline(5):
                await anyio.sleep(10)
        ended.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            with deadline(0.5):
                group.start_soon(child)

    vt.run(main, backend=backend)
    assert ended == pytest.approx([0.5])


@BACKENDS
def test_to05_it_survives_to_thread(vt, backend):
    """TO-05: a worker thread of anyio, asyncio or trio sees the deadline of the task that waits for it."""

    async def main():
        with deadline(3.0):
            assert await anyio.to_thread.run_sync(remaining) == pytest.approx(3.0)
            if backend == "asyncio":
                assert await asyncio.to_thread(remaining) == pytest.approx(3.0)

    vt.run(main, backend=backend)


def test_to05_unset_is_none(vt):
    """TO-05: without a deadline there is nothing left of it: None, or the cap, in any thread; and no overflow."""
    assert remaining() is None
    assert remaining(cap=2.5) == 2.5
    seen = []
    thread = threading.Thread(target=lambda: seen.append(remaining()))
    with deadline(10 * 365 * 86400.0):
        assert remaining() == pytest.approx(10 * 365 * 86400.0)
    thread.start()
    thread.join()
    assert seen == [None]


# ---- TO-05: not leaked out of generators -----------------------------------------------------------------------------


def test_to05_a_generator_keeps_its_deadline_to_itself(vt):
    """TO-05: between two items the consumer has its own deadline, and the generator has its own when it goes on."""
    inside = []

    def stream():
        with deadline(1.0):
            for item in range(3):
                inside.append(remaining())
                yield item
        inside.append(remaining())

    for _ in stream():
        assert remaining() is None
        vt.advance(0.25)
    assert inside == [pytest.approx(1.0), pytest.approx(0.75), pytest.approx(0.5), None]
    with deadline(10.0):
        for _ in stream():
            assert remaining() == pytest.approx(10.0)
    assert remaining() is None


@BACKENDS
def test_to05_an_async_generator_keeps_its_deadline_to_itself(vt, backend):
    """TO-05: the same for an async generator, also while it awaits, and in tasks that it waits for."""
    inside = []

    async def note():
        inside.append(remaining())

    async def stream():
        with deadline(1.0):
            for item in range(2):
                async with anyio.create_task_group() as group:
                    group.start_soon(note)
                await anyio.sleep(0.25)
                yield item

    async def main():
        async for _ in stream():
            assert remaining() is None
            async with anyio.create_task_group() as group:
                group.start_soon(note)

    vt.run(main, backend=backend)
    assert inside == [pytest.approx(1.0), None, pytest.approx(0.75), None]


def test_to05_interleaved_generators_do_not_mix(vt):
    """TO-05: two generators of one object, and a block of the consumer, end in any order and leave nothing."""
    shared = deadline(2.0)

    def stream():
        with shared:
            while True:
                yield remaining()

    first, second = stream(), stream()
    assert next(first) == pytest.approx(2.0)
    vt.advance(0.5)
    assert next(second) == pytest.approx(2.0)
    with deadline(9.0):
        assert (next(first), next(second)) == (pytest.approx(1.5), pytest.approx(2.0))
        first.close()
        assert remaining() == pytest.approx(9.0)
        assert next(second) == pytest.approx(2.0)
    assert next(second) == pytest.approx(2.0)
    second.close()
    assert remaining() is None


def test_to05_an_abandoned_generator_leaves_nothing(vt):
    """TO-05: a generator that is collected in the midst of its block takes its deadline with it."""

    def stream():
        with deadline(2.0):
            yield 1

    running = stream()
    next(running)
    del running
    assert remaining() is None


def test_to05_an_async_generator_does_not_have_its_consumer_interrupted(vt):
    """TO-05: a deadline that passes while the generator stands at a yield is raised when its block ends."""
    worked = []

    async def stream():
        async with deadline(1.0):
            yield 1
            yield 2

    async def main():
        with pytest.raises(DeadlineExceededError):
            async for item in stream():
                await anyio.sleep(3.0)
                worked.append(item)
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)
    assert worked == [1, 2]


def test_to05_an_async_generator_is_interrupted_while_it_works(vt):
    """TO-05: a deadline that passes while the generator awaits interrupts it, and its consumer gets the error."""

    async def stream():
        async with deadline(1.0):
            yield 1
            await anyio.sleep(10)

    async def main():
        with pytest.raises(DeadlineExceededError):
            async for _ in stream():
                pass
        assert vt.now == pytest.approx(1.0)

    vt.run(main)


def test_to05_a_context_manager_made_of_a_generator_sets_it_for_its_block(vt):
    """TO-05: the yield of a @contextmanager function is the body of a block, so the deadline holds there."""

    @contextmanager
    def request():
        with deadline(2.0):
            yield

    @contextmanager
    def outer_request():
        with request():
            yield

    with outer_request():
        assert remaining() == pytest.approx(2.0)
    assert remaining() is None

    def stream():
        with request():
            yield remaining()

    assert [(item, remaining()) for item in stream()] == [(pytest.approx(2.0), None)]


@BACKENDS
def test_to05_an_async_context_manager_made_of_a_generator_is_enforced(vt, backend):
    """TO-05: the same with @asynccontextmanager, where the body is interrupted."""

    @asynccontextmanager
    async def request():
        async with deadline(2.0):
            yield

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with request():
                assert remaining() == pytest.approx(2.0)
                await anyio.sleep(10)
        assert vt.now == pytest.approx(2.0)
        assert remaining() is None

    vt.run(main, backend=backend)


# ---- BH-06: waiters whose deadline has passed ------------------------------------------------------------------------


@BACKENDS
@pytest.mark.parametrize("order", ["fifo", "lifo", "adaptive"])
def test_bh06_a_waiter_whose_deadline_has_passed_is_rejected_at_dequeue(vt, backend, order):
    """BH-06: a permit that comes at the deadline goes to the next in the queue, not to who gives it up again."""
    limit, ended = bulkhead(1, max_queued=10, max_wait=60, order=order), []

    async def call(name, seconds):
        with deadline(seconds):
            try:
                await limit.acall(anyio.lowlevel.checkpoint)
                ended.append((name, "called"))
            except DeadlineExceededError as error:
                ended.append((name, "called" if error.called else "rejected"))

    async def main():
        permit = limit.acquire()
        async with anyio.create_task_group() as group:
            for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 5.0)):
                group.start_soon(call, name, seconds)
            await anyio.sleep(0.5)
            # The clock stands at the deadline and no loop has turned yet: nobody's timer has run.
            vt.advance(0.5)
            permit.success()
            assert limit.snapshot().queued == 3
        assert (limit.used, limit.snapshot().queued) == (0, 0)

    vt.run(main, backend=backend)
    assert sorted(ended) == [("a", "rejected"), ("b", "rejected"), ("c", "called")]
    assert vt.now == pytest.approx(1.0)
    assert_no_leaks()


@BACKENDS
def test_bh06_a_permit_granted_before_the_deadline_and_taken_after_it_goes_back(vt, backend):
    """BH-06: a loop that comes to it too late does not run the call, and the permit is the next one's."""
    limit, called = bulkhead(1, max_queued=10, max_wait=60), []

    async def call(name, seconds):
        with deadline(seconds), suppress(DeadlineExceededError):
            await limit.acall(note, name)

    async def note(name):
        called.append((name, vt.now))

    async def main():
        permit = limit.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(call, "late", 1.0)
            await anyio.sleep(0.1)
            group.start_soon(call, "next", 9.0)
            await anyio.sleep(0.1)
            permit.success()  # granted to the first, whose task has not run yet
            vt.advance(3.0)

    vt.run(main, backend=backend)
    assert called == [("next", pytest.approx(3.2))]
    assert_no_leaks()


def test_bh06_tokens_at_the_deadline_go_to_the_next_in_the_queue(vt):
    """BH-06: the same for a rate limit: at its deadline the head takes no token, and the next has it at once."""
    limit, ended = rate_limit("1/s", burst=1, max_wait=60), []

    async def call(name, seconds):
        with deadline(seconds):
            try:
                await limit.acall(anyio.lowlevel.checkpoint)
                ended.append((name, "called", vt.now))
            except DeadlineExceededError:
                ended.append((name, "rejected", vt.now))

    async def main():
        limit.acquire().success()
        async with anyio.create_task_group() as group:
            group.start_soon(call, "head", 1.0)
            group.start_soon(call, "next", 9.0)
            await anyio.sleep(0.5)
            vt.advance(0.5)
            assert limit.try_acquire().reason == "rate"  # whoever comes by serves the queue

    vt.run(main)
    assert ended == [("next", "called", 1.0), ("head", "rejected", 1.0)] or sorted(ended) == [
        ("head", "rejected", 1.0),
        ("next", "called", 1.0),
    ]
    assert_no_leaks()


# ---- RT-02: nothing starts after the deadline ------------------------------------------------------------------------


@BACKENDS
def test_rt02_no_attempt_starts_after_the_deadline(vt, backend):
    """RT-02: a loop of attempts by hand ends at the deadline: the attempt after it is rejected, not begun."""
    limit, begun = bulkhead(1), []

    async def attempt():
        begun.append(vt.now)
        await anyio.sleep(0.3)
        raise ConnectionError

    async def main():
        with deadline(1.0), pytest.raises(DeadlineExceededError) as caught:
            while True:
                with suppress(ConnectionError):
                    await limit.acall(attempt)
        assert not caught.value.called

    vt.run(main, backend=backend)
    assert begun == pytest.approx([0.0, 0.3, 0.6, 0.9])
