"""The queue of a rate limit that workers share, after one of them has died while its calls wait."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest

from resilio import rate_limit
from resilio._native.shared import Member, Region
from resilio.testing import virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


def workers(n: int) -> tuple[list[Any], list[Member]]:
    """Return the limits of so many processes that have one cell, and their places in its region."""
    region = Region.private()
    limits: list[Any] = [rate_limit("10/s", burst=1, max_wait=60, scope="process") for _ in range(n)]
    members = [region.join() for _ in range(n)]
    for limit, member in zip(limits, members, strict=True):
        kind, stock, size = limit._gate.cell_wanted()
        limit._gate.share(region.cell(kind, "limit", stock, size, member))
    return limits, members


async def wait_for(limit: Any, passed: list[int], number: int) -> None:
    """Call once."""
    async with limit:
        passed.append(number)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_dead_do_not_queue(backend: str) -> None:
    """
    Calls of a worker that was killed kept their places: those of others waited for them, or were rejected, with tokens.

    With 150 of them and "10/s" a healthy worker's calls were rejected for 15 s, though the bucket was full.
    """
    passed: list[int] = []

    async def main() -> None:
        (dies, lives), members = workers(2)
        assert lives.try_acquire()
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(wait_for, dies, passed, number)
            await anyio.sleep(0.001)
            assert lives.peek() > 3
            members[0].leave()
            assert lives.peek() == pytest.approx(0.099)
            group.cancel_scope.cancel()
        assert lives.peek() == pytest.approx(0.099), "what is given back once is not given back twice"
        await anyio.sleep(0.1)
        assert lives.try_acquire()

    with virtual_time() as vt:
        vt.run(main, backend=backend)
    assert not passed


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_those_that_live_keep_their_places(backend: str) -> None:
    """Of three workers one dies: a new call waits behind those of the others that wait, and behind them alone."""
    passed: list[int] = []

    async def main() -> None:
        (dies, one, other), members = workers(3)
        assert one.try_acquire()
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(wait_for, one, passed, number)
                group.start_soon(wait_for, dies, [], number)
            await anyio.sleep(0.001)
            members[0].leave()
            assert other.peek() == pytest.approx(0.599)
            await anyio.sleep(2)
            assert sorted(passed) == [0, 1, 2, 3, 4]
            group.cancel_scope.cancel()
        assert other.peek() == 0
        assert other.try_acquire()

    with virtual_time() as vt:
        vt.run(main, backend=backend)


def test_a_worker_that_is_served_holds_no_places() -> None:
    """What a worker's calls have taken is no place of it: its death gives nothing back."""
    passed: list[int] = []

    async def main() -> None:
        (dies, lives), members = workers(2)
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(wait_for, dies, passed, number)
            await anyio.sleep(0.95)
        assert sorted(passed) == list(range(10))
        async with anyio.create_task_group() as group:
            for number in range(10, 13):
                group.start_soon(wait_for, lives, passed, number)
            await anyio.sleep(0.001)
            waits = lives.peek()
            members[0].leave()
            assert lives.peek() == waits > 0.3

    with virtual_time() as vt:
        vt.run(main)
