"""Deadlines: cancellation on every event loop, blocks left in odd places, bad input, the error."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
import types
from contextlib import AsyncExitStack, ExitStack, suppress
from datetime import timedelta

import anyio
import pytest
import trio

from resilio import deadline, remaining
from resilio._context import scope, variables
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline, generator_of
from resilio.errors import DeadlineExceededError, ResilienceError

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def nothing_open():
    """No block may be remembered when a test is over."""
    yield
    gc.collect()
    assert len(scope._open) == 0
    assert variables.deadline.get() is None


# ---- cancellation ----------------------------------------------------------------------------------------------------


async def _sleep_under_a_deadline(seconds):
    async with deadline(seconds):
        await asyncio.sleep(3600)


def test_a_cancellation_from_outside_passes_through(vt):
    """Somebody else's cancellation is not the deadline's: it goes on outward, and is counted once."""

    async def main():
        task = asyncio.create_task(_sleep_under_a_deadline(10))
        await asyncio.sleep(1)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled()
        assert task.cancelling() == 1

    vt.run(main)


@pytest.mark.parametrize("first", ["outside", "deadline"])
def test_a_cancellation_in_the_same_tick_is_not_swallowed(vt, first):
    """Cancelled from outside in the very tick in which the deadline passes: the cancellation wins, in both orders."""

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(_sleep_under_a_deadline(1.0))
        when = loop.time() + 1.0
        if first == "outside":
            loop.call_at(when, task.cancel)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            loop.call_at(when, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1  # of the two requests the deadline took its own back
        assert vt.now == pytest.approx(1.0)

    vt.run(main)


def test_the_count_of_cancellations_is_balanced(vt):
    """After an interrupted block `task.cancelling()` is what it was, so an outer timeout of asyncio works as ever."""

    async def main():
        task = asyncio.current_task()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(2):
                with pytest.raises(DeadlineExceededError):
                    await _sleep_under_a_deadline(1)
                assert task.cancelling() == 0
                await asyncio.sleep(10)
        assert not isinstance(caught.value, DeadlineExceededError)
        assert task.cancelling() == 0
        assert vt.now == pytest.approx(2)

    vt.run(main)


def test_a_task_that_was_being_cancelled_before_is_still_interrupted(vt):
    """A block entered in the cleanup of a cancelled task raises its deadline, and the cancellation stays counted."""
    seen = []

    async def work():
        try:
            await asyncio.sleep(10)
        finally:
            with pytest.raises(DeadlineExceededError):
                await _sleep_under_a_deadline(1)
            seen.append(asyncio.current_task().cancelling())

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    vt.run(main)
    assert seen == [1]


def test_a_body_that_swallows_the_interruption_ends_normally(vt):
    """As with `asyncio.timeout`, a body that catches the cancellation has answered it; nothing is left counted."""

    async def main():
        async with deadline(1):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
        assert asyncio.current_task().cancelling() == 0
        with pytest.raises(KeyError):
            async with deadline(1):
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    raise KeyError from None
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)


@BACKENDS
def test_a_deadline_of_zero_interrupts_at_the_first_suspension(vt, backend):
    """A block whose time is up on entry runs to its first suspension; one that never suspends ends normally."""
    steps = []

    async def main():
        async with deadline(0):
            steps.append("not suspended")
        with pytest.raises(DeadlineExceededError):
            async with deadline(timedelta(0)):
                steps.append("entered")
                await anyio.sleep(1)
                steps.append("never")
        with deadline(0), pytest.raises(DeadlineExceededError):
            async with deadline(1):
                await anyio.sleep(0.5)
        assert vt.now == pytest.approx(0, abs=1e-6)

    vt.run(main, backend=backend)
    assert steps == ["not suspended", "entered"]


@BACKENDS
def test_one_object_serves_many_blocks_at_once(vt, backend):
    """Tasks that enter the same object at different times have their own time each."""
    shared = deadline(1.0)
    ended = []

    async def work(start):
        await anyio.sleep(start)
        with pytest.raises(DeadlineExceededError):
            async with shared:
                await anyio.sleep(10)
        ended.append(vt.now)

    async def main():
        async with anyio.create_task_group() as group:
            for start in (0.0, 0.25, 0.5):
                group.start_soon(work, start)

    vt.run(main, backend=backend)
    assert ended == pytest.approx([1.0, 1.25, 1.5])


@BACKENDS
def test_an_error_of_the_body_passes_unchanged(vt, backend):
    """What the body raises in time is what comes out, a TimeoutError of its own included."""

    async def main():
        for error in (KeyError("key"), TimeoutError("its own")):
            with pytest.raises(type(error)) as caught:
                async with deadline(1):
                    raise error
            assert caught.value is error

    vt.run(main, backend=backend)


def test_errors_beside_the_cancellation_in_a_group_come_out_on_trio(vt):
    """A child that fails while the deadline cancels its nursery is reported, not lost."""

    async def child():
        try:
            await trio.sleep(10)
        finally:
            raise KeyError

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with deadline(1), trio.open_nursery() as nursery:
                nursery.start_soon(child)
        assert [type(error) for error in caught.value.exceptions] == [KeyError]

    vt.run(main, backend="trio")


def test_a_scope_of_anyio_inside_and_outside_keeps_to_itself(vt):
    """A cancel scope of anyio around or inside a deadline ends what is its own, on asyncio too."""

    async def main():
        with anyio.move_on_after(1) as outer:
            await _sleep_under_a_deadline(2)
        assert outer.cancelled_caught
        with pytest.raises(DeadlineExceededError):
            async with deadline(1):
                with anyio.move_on_after(5):
                    await anyio.sleep(10)
        with anyio.move_on_after(1) as tied:
            await _sleep_under_a_deadline(1)
        assert tied.cancelled_caught
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_task_is_interrupted(vt):
    """A block entered in the first step of an eager task is that task's, not its creator's."""

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(_sleep_under_a_deadline(1))
        await asyncio.sleep(0.5)
        assert remaining() is None
        with pytest.raises(DeadlineExceededError):
            await task
        assert vt.now == pytest.approx(1)

    vt.run(main)


def test_uvloop_interrupts():
    """The block works on uvloop, whose timers are its own; in real time, as uvloop knows no other."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        with pytest.raises(DeadlineExceededError):
            await _sleep_under_a_deadline(0.02)
        with pytest.raises(DeadlineExceededError):
            await _sleep_under_a_deadline(0)
        assert asyncio.current_task().cancelling() == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_threads_have_their_own():
    """The same object entered in two threads at once is two deadlines."""
    shared, both, seen = deadline(100.0), threading.Barrier(2), []

    def work(extra):
        with deadline(extra), shared:
            both.wait()
            seen.append(remaining() < 1 if extra == 1 else remaining() > 50)
            both.wait()

    threads = [threading.Thread(target=work, args=(extra,)) for extra in (1, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True, True]


# ---- where there is nothing to interrupt -----------------------------------------------------------------------------


def test_an_async_block_needs_a_loop_and_a_task():
    """Outside of a loop, or of a task, entering says so and leaves no deadline behind."""

    def step(coroutine):
        with pytest.raises(RuntimeError) as caught:
            coroutine.send(None)
        return str(caught.value)

    assert "no running event loop" in step(_sleep_under_a_deadline(1))
    assert remaining() is None
    said = []

    async def main():
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def callback():
            said.append(step(_sleep_under_a_deadline(1)))
            done.set()

        loop.call_soon(callback)
        await done.wait()

    asyncio.run(main())
    assert "must be entered in a task" in said[0]
    assert remaining() is None


@BACKENDS
def test_a_thread_without_a_loop_is_not_where_it_is_enforced(vt, backend):
    """An async block that a worker thread drives in a loop of its own enforces the deadline that it inherited."""

    def worker():
        with pytest.raises(RuntimeError, match="event loop"):
            _sleep_under_a_deadline(9).send(None)
        return remaining()

    async def main():
        async with deadline(1):
            assert await anyio.to_thread.run_sync(worker) == pytest.approx(1)

    vt.run(main, backend=backend)


# ---- blocks left elsewhere -------------------------------------------------------------------------------------------


def test_exit_stacks_hold_deadlines(vt):
    """A deadline on an exit stack holds until the stack is closed, where that is another function too."""
    shared = deadline(1.0)

    def closes(stack):
        stack.close()

    with ExitStack() as stack:
        stack.enter_context(shared)
        assert remaining() == pytest.approx(1.0)
        moved = stack.pop_all()
    assert remaining() == pytest.approx(1.0)
    closes(moved)
    assert remaining() is None
    with pytest.raises(RuntimeError, match="never entered"):
        shared.__exit__(None, None, None)


@BACKENDS
def test_async_exit_stacks_are_interrupted(vt, backend):
    """A deadline on an async exit stack interrupts the block of the stack."""

    async def main():
        with pytest.raises(DeadlineExceededError):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(deadline(1.0))
                await anyio.sleep(10)
        assert remaining() is None

    vt.run(main, backend=backend)


def test_of_blocks_left_elsewhere_this_contexts_goes_first(vt):
    """Two tasks close stacks with the same object in helper functions: each puts its own deadline back."""
    shared = deadline(5.0)

    async def work(seconds):
        stack = ExitStack()
        _enter_on(stack, shared)
        await asyncio.sleep(seconds)
        _close(stack)
        assert remaining() is None

    async def main():
        await asyncio.gather(work(1), work(2))

    vt.run(main)


def _enter_on(stack, block):
    stack.enter_context(block)


def _close(stack):
    stack.close()


def test_a_block_left_in_another_context_raises_nothing(vt):
    """A generator whose items are taken in one context each ends its block wherever it is closed."""
    import contextvars

    def stream():
        with deadline(1.0):
            yield remaining()
            yield remaining()

    running = stream()
    assert contextvars.copy_context().run(next, running) == pytest.approx(1.0)
    assert remaining() is None
    contextvars.copy_context().run(running.close)


def test_an_abandoned_async_generator_is_interrupted_by_nobody(vt):
    """An async generator that its consumer left in the midst of a block has no timer left that hits the consumer."""

    async def stream():
        async with deadline(1.0):
            yield 1

    async def main():
        async for _ in stream():
            break
        await asyncio.sleep(5)
        kept = stream()
        await anext(kept)
        await asyncio.sleep(5)
        with pytest.raises(DeadlineExceededError):
            await anext(kept)
        assert asyncio.current_task().cancelling() == 0

    vt.run(main)


def test_a_coroutine_made_of_a_generator_counts_as_a_coroutine(vt):
    """A `types.coroutine` function is no stream: what it awaits runs under its deadline."""

    @types.coroutine
    def pause():
        yield

    @types.coroutine
    def work():
        with deadline(1.0):
            yield from pause()
            return remaining()

    async def main():
        assert await work() == pytest.approx(1.0)

    vt.run(main)


def test_a_generator_begun_inside_a_block_costs_the_consumer_nothing(vt):
    """A consumer that leaves its block while a generator is in one of its own is rid of its deadline."""

    def stream():
        with deadline(2.0):
            yield remaining()
            yield remaining()

    with deadline(1.0):
        running = stream()
        assert next(running) == pytest.approx(1.0)
    assert remaining() is None
    next(running)
    assert remaining() is None
    running.close()
    assert remaining() is None


def test_a_task_keeps_the_deadline_of_a_block_that_has_ended(vt):
    """What was started under a deadline is under it to its own end, as the request is that it works for."""

    async def main():
        async def late():
            await asyncio.sleep(1)
            assert remaining() == pytest.approx(4.0)

        with deadline(5.0):
            task = asyncio.create_task(late())
        assert remaining() is None
        await task

    vt.run(main)


# ---- bad input, remaining, the error ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, [2], True, (1,)])
def test_what_is_no_time_is_rejected(value):
    """A wrong type is a TypeError that names the parameter and the value."""
    with pytest.raises(TypeError, match=r"seconds must be a time in seconds, like '5s' or a timedelta, >= 0"):
        deadline(value)


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), 1e12, timedelta(seconds=-1)])
def test_an_absurd_time_is_rejected(value):
    """Negative, NaN, infinite and absurd times are a ValueError, for `deadline` and for the cap."""
    with pytest.raises(ValueError, match="seconds must be"):
        deadline(value)
    with pytest.raises(ValueError, match="cap must be"):
        remaining(cap=value)


def test_remaining_is_capped_and_never_negative(vt):
    """The lesser of the cap and what is left; 0.0 once the time is up."""
    with deadline(timedelta(seconds=4)):
        assert remaining(cap=timedelta(seconds=1)) == 1.0
        assert remaining(cap=60) == pytest.approx(4.0)
        vt.advance(5)
        assert remaining() == remaining(cap=1) == 0.0
    assert repr(deadline(1.5)) == "deadline(1.5)"
    assert deadline(1.5).seconds == 1.5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DeadlineExceededError(), "the deadline has passed"),
        (DeadlineExceededError(2.0, 0.0), "the deadline of 2 s has passed"),
        (
            DeadlineExceededError(2.0, 0.1, 0.3, "bulkhead", "db"),
            "bulkhead 'db' rejected the call: the deadline of 2 s cannot be met: 0.3 s are needed, 0.1 s are left",
        ),
        (DeadlineExceededError(policy="rate_limit"), "rate_limit rejected the call: the deadline has passed"),
    ],
)
def test_the_error_says_what_and_pickles(error, text):
    """Its message says what was asked, needed and left; it is a TimeoutError, and a copy says the same."""
    error.note = "mine"
    copy = pickle.loads(pickle.dumps(error))
    assert str(error) == str(copy) == text
    assert text in repr(copy)
    assert copy.__dict__ == error.__dict__
    assert copy.called == (error.policy is None)
    assert copy.reason == "deadline"
    assert isinstance(copy, TimeoutError)
    assert isinstance(copy, ResilienceError)


# ---- the native value ------------------------------------------------------------------------------------------------


def test_ambient_deadlines_reject_what_they_cannot_hold():
    """Wrong arguments are TypeErrors, and nothing is counted for them."""
    with pytest.raises(TypeError, match="outer must be an AmbientDeadline or None, not 3"):
        AmbientDeadline(1, 1, 3)
    with pytest.raises(TypeError, match="weak reference"):
        AmbientDeadline(1, 1, None, 3)
    with pytest.raises(TypeError):
        AmbientDeadline("soon")
    with pytest.raises(TypeError, match="frame must be a frame, not 3"):
        generator_of(3)
    assert generator_of(sys._getframe()) is None
    assert ambient_deadline() is None


def test_what_is_no_deadline_in_the_variable_is_none():
    """A foreign value in the context variable is passed over."""
    keep = AmbientDeadline(clock.now_ns(), 1)
    token = variables.deadline.set("tomorrow")
    try:
        assert ambient_deadline() is None
    finally:
        variables.deadline.reset(token)
    assert (keep.cutoff, keep.allowed_ns) == (None, 1)


def test_a_generator_that_cannot_say_whether_it_runs_does_not():
    """What is given as a generator and has no `ag_running` holds nothing, and no error gets out."""

    class Odd:
        pass

    odd = Odd()
    token = variables.deadline.set(AmbientDeadline(1, 1, AmbientDeadline(7, 7), odd))
    try:
        assert ambient_deadline().until_ns == 7
        odd.ag_running = True
        assert ambient_deadline().until_ns == 1
    finally:
        variables.deadline.reset(token)
