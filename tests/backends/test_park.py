"""A parked caller is woken from anywhere, on time, once; and leaves without a trace when it is cancelled."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from resilio import _backends, bulkhead, standard
from resilio._backends import threads
from resilio._native import clock
from resilio.testing import virtual_time


class FakeWaiter:
    """The core's waiter in a few lines: notified once, also before anybody is parked."""

    def __init__(self) -> None:
        self.waker: Callable[[], None] | None = None
        self.notified = False
        self.bound = threading.Event()

    def bind(self, waker: Callable[[], None]) -> bool:
        self.waker = waker
        self.bound.set()
        return self.notified

    def unbind(self) -> None:
        self.waker = None

    def wake(self) -> None:
        self.notified = True
        if self.waker is not None:
            self.waker()


async def settle_down() -> None:
    for _ in range(4):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_a_parked_task_is_woken_by_another_task() -> None:
    """A wake-up out of a neighbour's step resumes the parked task, which leaves no waker behind."""
    waiter = FakeWaiter()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(_backends.park, waiter, None)
            await settle_down()
            waiter.wake()
    assert waiter.waker is None


@pytest.mark.anyio
async def test_a_task_notified_before_it_parks_does_not_suspend() -> None:
    """A wake-up that came first is not waited for."""
    waiter = FakeWaiter()
    waiter.wake()
    with anyio.fail_after(30):
        await _backends.park(waiter, None)


@pytest.mark.anyio
async def test_a_wake_up_in_the_own_step_is_kept() -> None:
    """A finaliser that wakes the task between binding and suspending is not lost."""

    class Eager(FakeWaiter):
        def bind(self, waker: Callable[[], None]) -> bool:
            waker()
            return super().bind(waker)

    with anyio.fail_after(30):
        await _backends.park(Eager(), None)


@pytest.mark.anyio
async def test_a_parked_task_is_woken_by_another_thread() -> None:
    """The waker may be called from any thread."""
    waiter = FakeWaiter()

    def wake() -> None:
        assert waiter.bound.wait(30)
        waiter.wake()

    thread = threading.Thread(target=wake)
    thread.start()
    with anyio.fail_after(30):
        await _backends.park(waiter, None)
    thread.join()


@pytest.mark.anyio
async def test_a_wake_up_that_comes_twice_counts_once() -> None:
    """Timer, grant and finaliser may all call the waker; the task resumes once and nothing breaks."""
    waiter = FakeWaiter()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(_backends.park, waiter, 1e-9)
            await settle_down()
            waker = waiter.waker
            if waker is not None:
                waker()
                waker()
            await settle_down()
            if waker is not None:
                waker()
    await settle_down()


@pytest.mark.anyio
async def test_a_cancellation_passes_through_and_unbinds() -> None:
    """A cancelled caller leaves at once; a later wake-up meets nobody."""
    waiter = FakeWaiter()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(_backends.park, waiter, None)
            await settle_down()
            waker = waiter.waker
            assert waker is not None
            group.cancel_scope.cancel()
    assert waiter.waker is None
    waker()
    await settle_down()


@pytest.mark.anyio
async def test_a_finaliser_of_a_collection_wakes() -> None:
    """A wake-up out of the garbage collector, in the waiter's own thread, arrives."""
    waiter = FakeWaiter()

    class Holder:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            waiter.wake()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(_backends.park, waiter, None)
            await settle_down()
            Holder()
            gc.collect()


def test_a_wake_up_for_a_loop_that_has_ended_is_swallowed_on_asyncio() -> None:
    """A waiter of a closed asyncio loop is woken in vain, without an error."""
    waiter = FakeWaiter()

    async def main() -> Callable[[], None]:
        task = asyncio.ensure_future(_backends.park(waiter, None))
        await asyncio.sleep(0)
        waker = waiter.waker
        assert waker is not None
        task.cancel()
        return waker

    asyncio.run(main())()


def test_a_wake_up_for_a_run_that_has_ended_is_swallowed_on_trio() -> None:
    """A waiter of a finished trio run is woken in vain, without an error."""
    waiter = FakeWaiter()

    async def main() -> Callable[[], None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_backends.park, waiter, None)
            await trio.testing.wait_all_tasks_blocked()
            waker = waiter.waker
            assert waker is not None
            nursery.cancel_scope.cancel()
        return waker

    trio.run(main)()


def test_the_time_is_up_on_trio() -> None:
    """On trio a park ends at its time, by trio's own clock, without being woken."""

    async def main() -> float:
        before = trio.current_time()
        await _backends.park(FakeWaiter(), 1000.0)
        return trio.current_time() - before

    assert trio.run(main, clock=MockClock(autojump_threshold=0)) == pytest.approx(1000.0)


def test_the_time_is_up_on_asyncio() -> None:
    """On asyncio a park ends at its time, by the loop's own timers, without being woken."""

    class Jumping(asyncio.SelectorEventLoop):
        at = 0.0

        def time(self) -> float:
            return self.at

        def _run_once(self) -> None:
            if not self._ready and self._scheduled:
                self.at = max(self.at, self._scheduled[0].when())
            super()._run_once()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await _backends.park(FakeWaiter(), 1000.0)
        return loop.time() - before

    with asyncio.Runner(loop_factory=Jumping) as runner:
        assert runner.run(main()) == pytest.approx(1000.0, abs=1)  # the wheel counts on its own clock, which goes on


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts the timers that it is asked for."""

    timers = 0

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)


def test_long_waits_share_a_timer() -> None:
    """A thousand long waits on asyncio are one timer of the loop, which is all that is left when they are over."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        tasks = [asyncio.ensure_future(_backends.park(FakeWaiter(), 1000.0)) for _ in range(1000)]
        await asyncio.sleep(0)
        assert loop.timers == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert loop.timers == len(loop._scheduled) == 1

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(main())


def test_waits_of_different_length_end_in_their_order() -> None:
    """Later additions that end earlier move the timer forward; what was cancelled does not wake."""
    woken: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        await _backends.park(FakeWaiter(), seconds)
        woken.append(name)

    async def main() -> None:
        tasks = [
            asyncio.ensure_future(wait(name, 0.2 + after))
            for name, after in zip("abcd", (0.3, 0.1, 0.2, 0), strict=True)
        ]
        await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.wait(tasks)

    with virtual_time() as vt:
        vt.run(main)
    assert woken == ["b", "c", "a"]


def test_a_parked_thread_is_woken_by_another() -> None:
    """A blocked thread resumes when it is woken, and unbinds."""
    waiter = FakeWaiter()
    thread = threading.Thread(target=_backends.park_sync, args=(waiter, None))
    thread.start()
    assert waiter.bound.wait(30)
    waiter.wake()
    thread.join(30)
    assert not thread.is_alive()
    assert waiter.waker is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6])
def test_a_thread_waits_no_longer_than_it_was_told(seconds: float) -> None:
    """A thread comes back by itself; a time in the past is no time."""
    _backends.park_sync(FakeWaiter(), seconds)


def test_a_very_long_wait_is_a_wait() -> None:
    """A time beyond what the platform's lock can wait is cut, not rejected."""
    waiter = FakeWaiter()
    thread = threading.Thread(target=_backends.park_sync, args=(waiter, 1e12))
    thread.start()
    assert waiter.bound.wait(30)
    waiter.wake()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def virtual() -> Any:
    clock.set_virtual(1_000_000_000)
    yield
    clock.clear_virtual()
    threads.wake_due(clock.NEVER_NS)


@pytest.mark.usefixtures("virtual")
def test_a_thread_under_virtual_time_is_woken_by_the_moved_clock() -> None:
    """Virtual time wakes exactly the threads that are due."""
    done: list[str] = []

    def wait(name: str, seconds: float) -> None:
        _backends.sleep(seconds)
        done.append(name)

    sleepers = [threading.Thread(target=wait, args=(name, after)) for name, after in (("a", 1.0), ("b", 5.0))]
    for thread in sleepers:
        thread.start()
    while len(threads._due_ns) < 2:
        pass
    assert threads.next_due() == 2_000_000_000
    clock.set_virtual(2_000_000_000)
    assert threads.wake_due(2_000_000_000) == 1
    sleepers[0].join(30)
    assert done == ["a"]
    clock.set_virtual(6_000_000_000)
    assert threads.wake_due(6_000_000_000) == 1
    sleepers[1].join(30)
    assert done == ["a", "b"]
    assert threads.next_due() is None


@pytest.mark.usefixtures("virtual")
def test_a_thread_under_virtual_time_does_not_wait_for_the_past() -> None:
    """A time that has come is no wait, also when nobody moves the clock."""
    _backends.sleep(0.0)


@pytest.mark.anyio
async def test_no_thread_with_a_running_loop_may_block() -> None:
    """Blocking is rejected under either event loop, and allowed in a worker thread of it."""
    assert not _backends.can_block()
    assert await anyio.to_thread.run_sync(_backends.can_block)


def test_a_plain_thread_may_block() -> None:
    """Without an event loop blocking harms nobody."""
    assert _backends.can_block()


@pytest.mark.anyio
async def test_asleep_sleeps_on_the_running_loop() -> None:
    """Sleeping goes to the library that runs the task."""
    await _backends.asleep(0.0)


def _guest(main: Callable[[], Awaitable[None]]) -> None:
    """Run *main* under trio as a guest of asyncio."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        (await done).unwrap()

    asyncio.run(host())


def test_trio_as_a_guest_of_asyncio_parks_on_trio() -> None:
    """With both libraries in one thread, the one that runs the task is used."""

    async def main() -> None:
        waiter = FakeWaiter()
        with trio.move_on_after(math.inf):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_backends.park, waiter, None)
                await trio.testing.wait_all_tasks_blocked()
                waiter.wake()

    _guest(main)


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_a_task_that_nobody_keeps_is_kept_by_its_wait(library: str) -> None:
    """Loops know their tasks weakly, and so do queues and timers: one that waits for a permit was once collected."""
    run = pytest.importorskip(library).run
    ended: list[str] = []

    async def waiting(pool: Any) -> None:
        async with pool.permit():
            ended.append("admitted")

    async def main() -> None:
        pool = bulkhead(1, max_queued=1, max_wait=60.0)
        permit = pool.acquire()
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(waiting(pool)) and None)
        await asyncio.sleep(0.01)
        assert pool.snapshot().queued == 1
        gc.collect()
        await asyncio.sleep(0)
        permit.success()
        await asyncio.sleep(0.01)

    run(main())
    assert ended == ["admitted"]


@pytest.mark.anyio
async def test_an_old_trio_that_cannot_tell_whose_task_this_is_breaks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.23 trio had no `in_trio_task`: a stack with a timeout works with such a one imported."""
    expected = _backends.use_trio()
    monkeypatch.delattr(trio.lowlevel, "in_trio_task")
    assert _backends.use_trio() is expected

    @standard("with an old trio", on=ConnectionError, timeout=60)
    async def call() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    assert await call() == "done"
