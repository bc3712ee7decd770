"""A task that nobody keeps, and that waits for what only it knows, lives as long as a timer will interrupt it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from measured import measured

from resilio import CallTimeoutError, DeadlineExceededError, bulkhead, deadline, timeout
from resilio.testing import assert_no_leaks

Main = Coroutine[Any, Any, None]
SOON = 0.05  # seconds; a busy machine may take ten times as long as another between two passes of the loop


def eager_loop() -> asyncio.AbstractEventLoop:
    """A loop whose tasks begin to run where they are made."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop, where that is installed."""
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


LOOPS: list[Any] = [asyncio.new_event_loop, uvloop_loop]
if sys.version_info >= (3, 12):
    LOOPS.append(eager_loop)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Run a coroutine in a loop of each kind."""
    request.param().close()  # or skip

    def run(main: Main) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main)

    return run


async def hang(*_: Any) -> None:
    """Wait for what nobody else knows."""
    await asyncio.get_running_loop().create_future()


def forget(coroutine: Main) -> weakref.ref[asyncio.Task[None]]:
    """Run it in a task that nobody keeps."""
    return weakref.ref(asyncio.ensure_future(coroutine))


async def in_a_timeout() -> None:
    """Hang in a function with a timeout."""
    await timeout(SOON)(hang)()


async def in_a_nested_timeout() -> None:
    """Hang in one of two, of which the inner one comes first."""
    await timeout(30.0)(timeout(SOON)(hang))()


async def in_a_stage() -> None:
    """Hang in a function with a deadline."""
    await deadline(SOON)(hang)()


async def in_a_block() -> None:
    """Hang in a block with a deadline."""
    async with deadline(SOON):
        await hang()


@pytest.mark.parametrize("body", [in_a_timeout, in_a_nested_timeout, in_a_stage, in_a_block])
def test_a_task_that_nobody_keeps_is_interrupted_in_time(run: Any, body: Any) -> None:
    """It was collected once, and its timeout never came."""
    ended: list[type[BaseException]] = []

    async def main() -> None:
        async def recording() -> None:
            try:
                await body()
            except (CallTimeoutError, DeadlineExceededError) as error:
                ended.append(type(error))

        task = forget(recording())
        await asyncio.sleep(0)
        gc.collect()
        assert task() is not None
        while not ended:  # noqa: ASYNC110 - what ends it is what is tested
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        gc.collect()
        assert task() is None

    run(main())
    assert ended in ([CallTimeoutError], [DeadlineExceededError])


def test_a_hedge_keeps_the_task_until_it_has_been_sent(run: Any) -> None:
    """While nothing is armed any more, nothing is kept: as without a hedge, the collector decides."""
    called: list[str] = []

    @measured(SOON, typical=0.005, saved=10, min_delay=0.0)
    async def hedged() -> str:
        called.append("called")
        if len(called) == 1:
            await hang()
        return "answer"

    async def main() -> None:
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await hedged())

        forget(ask())
        await asyncio.sleep(0)
        gc.collect()
        gc.disable()  # from the hedge's start to its answer it may take the task, and this test would wait for ever
        while not answers:  # noqa: ASYNC110 - what ends it is what is tested
            await asyncio.sleep(0.001)

    try:
        run(main())
    finally:
        gc.enable()
    assert called == ["called", "called"]


def test_nothing_is_kept_once_a_call_has_ended(run: Any) -> None:
    """A task is freed at its end, without the collector, though its timeout would come much later."""

    async def main() -> None:
        guarded = timeout(30.0)(asyncio.sleep)

        async def body() -> None:
            await guarded(0)
            async with deadline(30.0):
                await asyncio.sleep(0)

        task = forget(body())
        assert task() is not None
        for _ in range(5):
            await asyncio.sleep(0)
        assert task() is None
        assert not getattr(asyncio.get_running_loop(), "_resilio_keeps", ())

    run(main())


def test_a_dropped_call_gives_its_permit_back_at_once(run: Any) -> None:
    """What is kept is the task that stepped it, not the call."""
    pool = bulkhead(1)

    @timeout(30.0)
    @pool
    async def guarded() -> None:
        await hang()

    async def main() -> None:
        call: Any = guarded()
        call.send(None)
        assert pool.snapshot().inflight == 1
        del call
        assert pool.snapshot().inflight == 0

    run(main())
    assert_no_leaks(pool)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("factory", LOOPS)
def test_a_closed_loop_takes_its_tasks_with_it(factory: Any) -> None:
    """Tasks that hang when their loop is closed are collected with it, and give their permits back."""
    pool = bulkhead(2)

    @timeout(30.0)
    @pool
    async def guarded() -> None:
        await hang()

    async def block() -> None:
        async with deadline(30.0), pool.permit():
            await hang()

    def leave() -> list[weakref.ref[Any]]:
        loop = factory()
        loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
        tasks = [loop.create_task(guarded()), loop.create_task(block())]
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        return [weakref.ref(thing) for thing in (loop, *tasks)]

    left = leave()
    gc.collect()
    gc.collect()
    assert [thing() for thing in left] == [None, None, None]
    assert_no_leaks(pool)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("factory", LOOPS)
def test_loops_that_take_turns_keep_each_their_own(factory: Any) -> None:
    """Of loops that run by turns in one thread each keeps its own tasks, which go with that one and with no other."""

    async def turn() -> weakref.ref[asyncio.Task[None]]:
        task = forget(timeout(30.0)(hang)())
        await asyncio.sleep(0)
        return task

    def begin() -> tuple[asyncio.AbstractEventLoop, list[weakref.ref[Any]], list[weakref.ref[Any]]]:
        gone, stays = factory(), factory()
        for loop in (gone, stays):
            loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
        tasks = [loop.run_until_complete(turn()) for loop in (gone, stays) * 3]
        gc.collect()
        assert all(task() is not None for task in tasks)
        gone.close()
        return stays, [weakref.ref(gone), *tasks[::2]], tasks[1::2]

    loop, left, kept = begin()
    gc.collect()
    gc.collect()
    assert [thing() for thing in left] == [None] * 4
    assert all(task() is not None for task in kept)
    loop.close()
    del loop
    gc.collect()
    gc.collect()
    assert [task() for task in kept] == [None] * 3


def test_a_loop_without_attributes_keeps_nothing_and_works() -> None:
    """Loops written in C or with slots allow none; tasks that somebody keeps are interrupted all the same."""

    class Slotted:
        __slots__ = ("inner",)

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name) if name != "_resilio_keeper" else super().__getattribute__(name)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        call: Any = timeout(30.0)(hang)()
        asyncio._set_running_loop(Slotted(loop))  # type: ignore[arg-type]
        try:
            call.send(None)
        finally:
            asyncio._set_running_loop(loop)
        call.close()

    asyncio.run(main())
