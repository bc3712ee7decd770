"""One policy for the whole process: several event loops, of both libraries, and threads, at once and in turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilio import BulkheadFullError, bulkhead, circuit_breaker, pipeline, rate_limit
from resilio.testing import VirtualTime, assert_no_leaks

LIMIT = 3


class Inside:
    """Counts who is inside at once, in all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.total = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


def in_a_loop(backend: str, main: Callable[[], Any], errors: list[BaseException]) -> threading.Thread:
    """Run `main` in an event loop in a thread of its own."""

    def run() -> None:
        try:
            anyio.run(main, backend=backend)
        except BaseException as error:
            errors.append(error)

    return threading.Thread(target=run)


@pytest.mark.untraced
@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), ("trio", "trio"), ("asyncio", "trio", "asyncio")])
def test_bh04_one_bulkhead_holds_over_several_loops(backends: tuple[str, ...]) -> None:
    """BH-04: two loops in two threads share the permits, and each waiter is woken in its own loop."""
    pool = bulkhead(LIMIT, max_queued=1000, max_wait=60)
    inside, errors, owners = Inside(), [], set()

    @pool
    async def work(owner: int) -> None:
        with inside:
            assert threading.get_ident() == owner
            owners.add(owner)
            await anyio.sleep(0.001)

    async def main() -> None:
        me = threading.get_ident()
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(work, me)

    threads = [in_a_loop(backend, main, errors) for backend in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (inside.total, inside.most, len(owners)) == (100 * len(backends), LIMIT, len(backends))
    assert_no_leaks(pool)


@pytest.mark.untraced
def test_bh04_threads_and_loops_queue_together() -> None:
    """BH-04: blocked threads and waiting tasks are in one queue; all get their turn."""
    pool = bulkhead(1, max_queued=1000, max_wait=60)
    inside, errors = Inside(), []

    async def work() -> None:
        async with pool:
            with inside:
                await anyio.sleep(0.001)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(work)

    def block() -> None:
        for _ in range(30):
            with pool, inside:
                time.sleep(0.0005)

    threads = [in_a_loop("asyncio", main, errors), in_a_loop("trio", main, errors), threading.Thread(target=block)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (inside.total, inside.most) == (90, 1)
    assert_no_leaks(pool)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_bh04_one_object_outlives_its_loops(vt: VirtualTime, backend: str) -> None:
    """BH-04: a policy works in one run after another, contended each time."""
    pool = bulkhead(2, max_queued=100, max_wait=60)
    limit = rate_limit("100/s", burst=1, max_wait=60)
    breaker = circuit_breaker()
    stack = pipeline(limit, breaker, pool)
    inside = Inside()

    @stack
    async def work() -> None:
        with inside:
            await anyio.sleep(0.05)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(work)

    for turn in range(1, 4):
        vt.run(main, backend=backend)
        assert (inside.total, inside.most) == (20 * turn, 2)
        assert_no_leaks(stack)


@pytest.mark.untraced
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_loop_that_was_closed_leaves_no_waiter_behind() -> None:
    """Waiters of a loop that was stopped in their midst and closed are gone once they are collected; others go on."""
    pool = bulkhead(1, max_queued=100, max_wait=60)
    permit = pool.acquire()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(pool.aacquire()) for _ in range(5)]
    loop.run_until_complete(asyncio.sleep(0))
    assert pool.snapshot().queued == 5
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    permit.success()  # wakes a waiter whose loop is closed: it passes the permit on, and so do the others
    assert (pool.used, pool.snapshot().queued) == (0, 0)
    del tasks, task, loop
    assert_no_leaks(pool)
    assert pool.call(lambda: "called") == "called"


def test_a_blocking_call_in_a_loop_is_rejected_at_once() -> None:
    """A sync call that would have to wait in an event loop's own thread is rejected: it would block the loop."""
    pool = bulkhead(1, max_queued=100, max_wait=60)

    async def main() -> None:
        async with pool:
            with pytest.raises(BulkheadFullError):
                pool.call(lambda: None)
            assert await asyncio.to_thread(pool.try_acquire) is not None

    asyncio.run(main())
    assert_no_leaks(pool)
