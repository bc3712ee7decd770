"""A permit granted to a waiter whose event loop is closed goes to the next waiter, at every gate that has a queue."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
import trio.testing
from trio import lowlevel

from resilio import adaptive_limit, bulkhead, load_shed, rate_limit
from resilio.errors import BulkheadFullError

LIMITS: dict[str, Callable[[], Any]] = {
    "bulkhead": lambda: bulkhead(1, max_queued=10, max_wait=600),
    "adaptive": lambda: bulkhead(1, max_queued=10, max_wait=600, order="adaptive"),
    "adaptive_limit": lambda: adaptive_limit(start=1, floor=1, ceiling=1, max_queued=10, max_wait=600),
    "load_shed": lambda: load_shed(max_concurrent=1, target=600),
    "rate_limit": lambda: rate_limit("1/h", burst=1, max_queued=10, max_wait=9 * 3600),
    "two rates": lambda: rate_limit("1/h", "3/d", burst=1, max_queued=10, max_wait=9 * 24 * 3600),
}


@pytest.fixture(params=sorted(LIMITS))
def limit(request: pytest.FixtureRequest) -> Any:
    """One policy with room for one call."""
    return LIMITS[request.param]()


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Iterator[Callable[[], asyncio.AbstractEventLoop]]:
    """Make an event loop; all are closed at the end."""
    library = asyncio if request.param == "asyncio" else pytest.importorskip("uvloop")
    made: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        made.append(library.new_event_loop())
        return made[-1]

    yield make
    for loop in made:
        loop.close()
    gc.collect()


def queue_up(loop: asyncio.AbstractEventLoop, limit: Any, calls: int) -> list[asyncio.Task[Any]]:
    """Have *calls* tasks of *loop* wait at *limit*; the loop then stands still."""
    enough = limit.snapshot().queued + calls

    async def main() -> list[asyncio.Task[Any]]:
        tasks = [asyncio.ensure_future(limit.aacquire()) for _ in range(calls)]
        await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(main())
    assert limit.snapshot().queued == enough
    return tasks


def free(limit: Any, permit: Any) -> None:
    """Make room for one call more."""
    permit.success()
    if limit.kind == "rate_limit":
        limit.reset()


def abandon(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_the_permit_goes_past_waiters_of_a_closed_loop(limit: Any, new_loop: Any) -> None:
    """
    Three waiters of a loop that was closed stood in front: the permit went to the first of them, and stayed there as
    long as the task was referenced.
    """
    closed, alive = new_loop(), new_loop()
    permit = limit.try_acquire()
    gone = queue_up(closed, limit, 3)
    closed.close()
    (task,) = queue_up(alive, limit, 1)
    free(limit, permit)
    alive.run_until_complete(asyncio.wait_for(task, 30)).success()
    seen = limit.snapshot()
    assert (seen.queued, seen.inflight) == (0, 0)
    assert not any(task.done() for task in gone)
    abandon(gone)


def test_a_wake_up_that_a_loop_drops_when_it_is_closed_goes_on(limit: Any, new_loop: Any) -> None:
    """The grant came while the loop stood still, and the loop was closed before it took another step."""
    closed, alive = new_loop(), new_loop()
    permit = limit.try_acquire()
    gone = queue_up(closed, limit, 1)
    (task,) = queue_up(alive, limit, 1)
    free(limit, permit)
    alive.run_until_complete(asyncio.sleep(0))
    assert not task.done()
    closed.close()
    alive.run_until_complete(asyncio.wait_for(task, 30)).success()
    assert limit.snapshot().queued == limit.snapshot().inflight == 0
    abandon(gone)


def test_a_thread_gets_what_loops_of_other_threads_cannot_take(limit: Any, new_loop: Any) -> None:
    """Each loop ran, and was closed, in a thread of its own; the waiter behind them blocks in another."""
    permit = limit.try_acquire()
    gone: list[asyncio.Task[Any]] = []

    def wait_and_close() -> None:
        loop = new_loop()
        gone.extend(queue_up(loop, limit, 2))
        loop.close()

    for _ in range(2):
        thread = threading.Thread(target=wait_and_close)
        thread.start()
        thread.join(30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(limit.acquire)
        while limit.snapshot().queued < 5:
            time.sleep(0)
        free(limit, permit)
        waiting.result(30).success()
    assert limit.snapshot().queued == limit.snapshot().inflight == 0
    abandon(gone)


def test_a_thousand_closed_waiters_are_passed_over_without_recursion(new_loop: Any) -> None:
    """Each passes the permit on to the next; the stack does not grow with them."""
    limit = bulkhead(1, max_queued=5000, max_wait=600)
    closed = new_loop()
    permit = limit.acquire()
    gone = queue_up(closed, limit, 3000)
    closed.close()
    permit.success()
    assert limit.snapshot().queued == limit.snapshot().inflight == 0
    abandon(gone)


def test_a_waiter_of_a_closed_loop_that_is_resumed_by_hand_is_rejected() -> None:
    """Its place is gone: it neither gets a permit nor gives one back twice."""
    limit = bulkhead(1, max_queued=5, max_wait=600)
    permit = limit.acquire()
    call = limit.aacquire()

    async def main() -> Any:
        return call.send(None)

    loop = asyncio.new_event_loop()
    future = loop.run_until_complete(main())
    loop.close()
    permit.success()
    future.set_result(None)
    with pytest.raises(BulkheadFullError) as rejected:
        call.send(None)
    assert rejected.value.reason == "would_block"
    assert (limit.snapshot().queued, limit.snapshot().inflight, limit.used) == (0, 0, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what the crash leaves of trio itself
def test_the_permit_goes_past_a_waiter_of_a_crashed_trio_run(limit: Any, new_loop: Any) -> None:
    """Trio ends no run with tasks left, unless it crashes; their waiters cannot be woken then."""
    kept: list[Any] = []
    permit = limit.acquire()

    def broken(_: Any) -> lowlevel.Abort:
        raise RuntimeError("a fault of an abort function crashes the run")

    async def wait() -> None:
        kept.append(lowlevel.current_task())
        await limit.aacquire()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1):  # its end is a step of the run itself, which has no caller to raise to
                await lowlevel.wait_task_rescheduled(broken)

    with pytest.raises(trio.TrioInternalError):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    alive = new_loop()
    queued = limit.snapshot().queued
    (task,) = queue_up(alive, limit, 1)
    free(limit, permit)
    alive.run_until_complete(asyncio.wait_for(task, 30)).success()
    assert queued <= 1
    assert limit.snapshot().queued == limit.snapshot().inflight == 0
