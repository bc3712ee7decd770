"""Bursts at a rate limit of a fleet: many calls at once at a host that had few, with real gates, couriers and rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from limits_of_fleet import Host, hosts, play

from resilio import Rate, keyed, pipeline, rate_limit
from resilio.errors import RateLimitedError
from resilio.sharing import Fleet, MemoryEngine
from resilio.testing import VirtualTime, virtual_time

BACKENDS = ["asyncio", "trio"]
TRIP = 0.002
"""Seconds between two looks whether a courier is due: a trip takes as long."""


@pytest.fixture
def vt() -> Iterator[VirtualTime]:
    with virtual_time() as time:
        yield time


async def stepping(fleet: list[Host]) -> None:
    while True:
        for one in fleet:
            one.fleet.step()
        await anyio.sleep(TRIP)


def burst(vt: VirtualTime, fleet: list[Host], calls: int, backend: str = "asyncio") -> tuple[list[float], list[float]]:
    """
    Make calls at once at the first host.

    Returns:
        The seconds after which calls were admitted, and those after which calls were rejected.
    """
    admitted: list[float] = []
    rejected: list[float] = []

    async def call() -> None:
        began = vt.now
        try:
            async with fleet[0].limit:
                admitted.append(vt.now - began)
        except RateLimitedError:
            rejected.append(vt.now - began)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stepping, fleet)
            async with anyio.create_task_group() as callers:
                for _ in range(calls):
                    callers.start_soon(call)
            group.cancel_scope.cancel()

    vt.run(main, backend=backend)
    return admitted, rejected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [1, 4])
def test_a_burst_passes_that_the_fleet_has_tokens_for(vt: VirtualTime, n: int, backend: str) -> None:
    """
    Of 60 calls at once at "100/s" three passed, and one after a rest: the host had leased what it had needed before,
    and without `max_wait` the rest was rejected, with 97 tokens in the store. A limit of one process admits them all.
    """
    fleet = hosts(n, "100/s")
    play(vt, fleet, [1.0] * n, 5.0)
    admitted, rejected = burst(vt, fleet, 60, backend)
    assert (len(admitted), rejected) == (60, [])
    assert max(admitted) <= 0.1
    assert 0.0 in admitted  # from the lease


def test_a_burst_beyond_the_stock_is_rejected_at_once(vt: VirtualTime) -> None:
    """What the store can have is less than what is asked for: the other calls need not wait to hear of it."""
    fleet = hosts(4, "100/s")
    play(vt, fleet, [1.0] * 4, 5.0)
    admitted, rejected = burst(vt, fleet, 150)
    assert 60 <= len(admitted) <= 100
    assert rejected.count(0.0) >= 25
    assert max(rejected) <= TRIP


@pytest.mark.parametrize("options", [{"burst": 3}, {"accuracy": "exact"}], ids=["asked", "exact"])
def test_a_call_that_may_not_wait_ends_with_the_answer(vt: VirtualTime, options: dict[str, Any]) -> None:
    """
    The store has said that there is nothing for it. Calls of a limit that is asked were held for two timeouts, a tenth
    of a second each, with `max_wait=0`.
    """
    rate = Rate("20/s", burst=options.pop("burst", None))
    (one,) = fleet = hosts(1, rate, **options)
    play(vt, fleet, [1.0], 5.0)
    admitted, rejected = burst(vt, fleet, 60)
    assert 1 <= len(admitted) <= 22
    assert max(rejected) <= 2 * TRIP
    vt.advance(0.02)
    admitted, rejected = burst(vt, fleet, 60)
    assert max(rejected) <= 2 * TRIP, "a token is to come in a twentieth of a second"
    assert one.limit.snapshot().sharing.regime in ("asked", "exact")  # type: ignore[union-attr]


def test_a_call_that_may_wait_a_little_waits_no_longer(vt: VirtualTime) -> None:
    """Its `max_wait` is less than the time that a call may take for a trip."""
    fleet = hosts(1, Rate("20/s", burst=3), max_wait=0.03)
    play(vt, fleet, [100.0], 2.0)
    _, rejected = burst(vt, fleet, 60)
    assert max(rejected) <= 0.03 + TRIP


def test_no_call_waits_for_a_store_that_has_just_not_answered(vt: VirtualTime) -> None:
    """Its lease is spent: calls beyond it are rejected at once, until the lease ends and the host has its share."""
    fleet = hosts(2, "100/s")
    play(vt, fleet, [1.0] * 2, 5.0)
    fleet[0].wire.is_cut = True
    lost = fleet[0].fleet.courier.lost
    while fleet[0].fleet.courier.lost == lost:
        play(vt, fleet, [1.0] * 2, 0.05)
    admitted, rejected = burst(vt, fleet, 60)
    assert len(admitted) < 60
    assert set(admitted) == {0.0}
    assert set(rejected) == {0.0}


def test_the_store_may_be_lost_while_calls_wait_for_it(vt: VirtualTime) -> None:
    """They end after the trip that was lost, not admitted and not forgotten."""
    fleet = hosts(4, "100/s")
    play(vt, fleet, [1.0] * 4, 5.0)
    fleet[0].wire.is_cut = True
    admitted, rejected = burst(vt, fleet, 60)
    assert len(admitted) + len(rejected) == 60
    assert max(rejected) <= 2 * fleet[0].fleet.timeout + 0.01


def test_a_slow_limit_leaves_its_tokens_in_the_store(vt: VirtualTime) -> None:
    """Of "60/h" a host holds what its callers want: a host that dies would take what comes in during hours."""
    fleet = hosts(3, "60/h")
    play(vt, fleet, [0.0] * 3, 60.0)
    assert sum(one.limit.snapshot().sharing.outstanding or 0.0 for one in fleet) <= 3.0  # type: ignore[union-attr]


def test_a_thread_that_runs_a_loop_has_what_is_here(vt: VirtualTime) -> None:
    """It cannot wait for a trip: its call is rejected at once, and rings for the next ones."""
    fleet = hosts(1, "100/s")
    play(vt, fleet, [1.0], 5.0)

    async def main() -> int:
        passed = 0
        for _ in range(100):
            try:
                with fleet[0].limit:
                    passed += 1
            except RateLimitedError:
                pass
        return passed

    assert 40 <= asyncio.run(main()) < 100
    play(vt, fleet, [0.0], 0.1)
    assert fleet[0].tries(20) == 20


def test_a_key_that_was_at_rest_has_a_burst(vt: VirtualTime) -> None:
    """The first call of a key passed, and the nine with it were rejected."""
    scope = Fleet("shop", MemoryEngine(), is_stepped=True)
    users: Any = keyed(lambda: rate_limit("20/s"), key="user", name="users", scope=scope)
    passed: list[float] = []

    @users
    async def ask(user: str) -> None:
        passed.append(vt.now)

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def step() -> None:
                while True:
                    scope.step()
                    await anyio.sleep(TRIP)

            group.start_soon(step)
            await ask("a")
            await anyio.sleep(30)
            passed.clear()
            async with anyio.create_task_group() as callers:
                for _ in range(10):
                    callers.start_soon(ask, "a")
            group.cancel_scope.cancel()

    vt.run(main)
    assert len(passed) == 10
    assert passed[-1] - passed[0] <= 0.1


def test_an_explanation_names_the_wait(vt: VirtualTime) -> None:
    """A call may wait though the limit has no `max_wait`."""
    (one,) = hosts(1, "100/s")
    play(vt, [one], [4.0], 3.0)
    text = " ".join(str(pipeline(one.limit).explain()).split())
    assert "waits for one trip where these are spent and there are more" in text


@pytest.mark.parametrize("options", [{"accuracy": "exact"}, {"burst": 3}])
def test_calls_that_cannot_wait_get_tokens_where_each_is_asked_for(vt: VirtualTime, options: dict[str, Any]) -> None:
    """
    `try_acquire()` of an exact limit, or of one with a small burst, was rejected for ever.

    It rang for the courier and reported nothing, so nothing was asked for. What one lacks the next one finds now.
    """
    (host,) = hosts(1, "100/s", **options)
    found = []
    for _ in range(400):
        vt.advance(0.01)
        host.fleet.step()
        found.append(bool(host.limit.try_acquire()))
    assert 100 <= sum(found) <= 4 * 100 + 3
