"""Loops that are closed and forgotten while a call that was interrupted cleans up: what it held goes back."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from measured import measured

from resilio import bulkhead, current, deadline, pipeline, standard, timeout

Work = Callable[[], Awaitable[Any]]


async def cleaning() -> None:
    """Take long, and long to clean up."""
    try:
        await asyncio.sleep(100)
    finally:
        await asyncio.sleep(100)


async def in_a_block() -> None:
    """Be interrupted by the deadline of a block."""
    async with deadline(0.001):
        await cleaning()


async def in_asyncios() -> None:
    """Be interrupted by asyncio, which is the measure."""
    async with asyncio.timeout(0.001):
        await cleaning()


async def superseded() -> None:
    """Be the primary whose copy wins at once."""
    if not current().hedge:  # type: ignore[union-attr]
        await cleaning()


async def losing() -> None:
    """Be a copy that loses at once."""
    if current().hedge:  # type: ignore[union-attr]
        await cleaning()
    await asyncio.sleep(0.005)


async def cancelled() -> None:
    """Be a copy that still cleans up when the caller has been cancelled, and waits for it."""
    if current().hedge:  # type: ignore[union-attr]
        await cleaning()
    await asyncio.sleep(0.01)
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
    await asyncio.sleep(100)


STACKS: dict[str, tuple[Callable[[Any], Callable[[Work], Work]], Work]] = {
    "asyncio.timeout": (lambda pool: pool, in_asyncios),
    "timeout": (lambda pool: pipeline(pool, timeout(0.001)), cleaning),
    "deadline": (lambda pool: pipeline(pool, deadline(0.001)), cleaning),
    "block": (lambda pool: pool, in_a_block),
    "standard": (lambda pool: lambda work: standard("closing", on=Exception, timeout=0.001)(pool(work)), cleaning),
    "superseded": (lambda pool: pipeline(measured(0.001), pool), superseded),
    "losing copy": (lambda pool: pipeline(measured(0.001), pool), losing),
    "cancelled caller": (lambda pool: pipeline(measured(0.001), pool), cancelled),
}


@pytest.mark.parametrize("new_loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("stack", STACKS)
def test_a_loop_that_is_closed_during_a_cleanup_loses_no_permit(
    stack: str, new_loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A call is interrupted, and its loop closed while it cleans up.

    Its task lay in a set of all tasks that were being interrupted, for ever, and with it its place in a pool; and that
    of a cancelled caller which waited for its copies in a scope of anyio's, which keeps its task.
    """
    caplog.set_level(logging.CRITICAL)  # asyncio complains of the task
    loop = pytest.importorskip("uvloop").new_event_loop() if new_loop == "uvloop" else asyncio.new_event_loop()
    pool = bulkhead(5)
    around, work = STACKS[stack]
    seen = []

    async def call() -> None:
        try:
            await around(pool)(work)()
        finally:
            seen.append("ended")

    async def until_it_cleans_up(task: asyncio.Task[None]) -> None:
        for _ in range(10_000):
            if task.cancelling() or task.done():
                break
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)

    loop.run_until_complete(until_it_cleans_up(loop.create_task(call())))
    assert pool.snapshot().inflight == 1
    loop.close()
    del loop
    gc.collect()
    assert pool.snapshot().inflight == 0
    assert pool.try_acquire().admitted
