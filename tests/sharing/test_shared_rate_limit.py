"""Rate limits that workers share: several limits count in one cell, on the virtual clock, as several processes do."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilio import Rate, keyed, rate_limit
from resilio._native.shared import Region
from resilio.errors import RateLimitedError
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

Limit = Any


def workers(n: int, *rates: Any, **options: Any) -> list[Limit]:
    """Return `n` limits as those of `n` processes: each has a queue and counters of its own, and one cell with them."""
    region = Region.private()
    limits = [rate_limit(*rates, scope="process", **options) for _ in range(n)]
    for limit in limits:
        kind, stock, size = limit._gate.cell_wanted()
        limit._gate.share(region.cell(kind, "limit", stock, size, region.join()))
    return limits


def admitted(limits: list[Limit], tries: int) -> int:
    """Return how many of this number of calls are admitted now, spread over the limits."""
    return sum(bool(limits[i % len(limits)].try_acquire()) for i in range(tries))


# ---- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["100/s", "10/min", "90000/min", "5/2s", "20000/s"])
def test_workers_admit_together_what_one_admits(text: str) -> None:
    """Eight workers of "100/s" admitted 800: each counted for itself."""
    with virtual_time() as vt:
        shared, alone = workers(8, text), rate_limit(text, scope="process")
        found = expected = 0
        for seconds in (0.0, 0.01, 0.5, 2.0, 60.0):
            vt.advance(seconds)
            tries = int(alone.available["requests"]) + 20
            expected += admitted([alone], tries)
            found += admitted(shared, tries)
            in_purses = 8 * 20 if text == "20000/s" else 0  # of each worker what comes in during a millisecond
            assert expected - in_purses <= found <= expected


@pytest.mark.parametrize("seed", range(3))
def test_a_shared_window_is_exact(seed: int) -> None:
    """At most 20 of any 10 s, over five workers, with some calls given back; and never fewer than that."""
    draw = random.Random(seed)
    calls: list[float] = []
    with virtual_time() as vt:
        limits = workers(5, "20/10s")
        for _ in range(2000):
            vt.advance(draw.choice([0.0, 0.01, 0.3, draw.expovariate(3)]))
            permit = draw.choice(limits).try_acquire()
            recent = [at for at in calls if at > vt.now - 10.0]
            assert bool(permit) == (len(recent) < 20)
            if permit and draw.random() < 0.1:
                permit.cancel()
            elif permit:
                calls.append(vt.now)
    assert len(calls) > 200


def test_a_call_takes_from_all_rates_or_from_none() -> None:
    """A call that one of several rates rejects gives the others back what it took, also for the other workers."""
    with virtual_time():
        one, other = workers(2, "10/s", Rate("3/min"), Rate("1000/min", unit="tokens", cost=5, burst=12))
        assert admitted([one, other], 10) == 2
        assert one.available == other.available == {"requests": 1.0, "tokens": 2.0}


def test_a_fraction_of_a_call_counts_as_a_fraction() -> None:
    """Costs below one are exact in a shared window as well."""
    with virtual_time():
        assert admitted(workers(3, "10/min", cost=0.5), 50) == 20


# ---- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_of_all_workers_wait_in_one_order(backend: str) -> None:
    """Calls of three workers queue in turn; they pass in that order, one in each tenth of a second."""
    order: list[tuple[int, float]] = []

    async def call(vt: VirtualTime, limit: Limit, number: int) -> None:
        async with limit:
            order.append((number, round(vt.now, 3)))

    async def main(vt: VirtualTime) -> None:
        limits = workers(3, "10/s", burst=1, max_wait=10)
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(call, vt, limits[number % 3], number)
                await anyio.sleep(0.001)

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend=backend)
    assert [number for number, _ in order] == list(range(12))
    assert [at - began for _, at in order] == pytest.approx([number / 10 for number in range(12)], abs=1e-6)


@pytest.mark.parametrize("rate", [10, 50, 200, 3000])
def test_workers_with_queues_get_the_same(rate: int) -> None:
    """
    Four callers in each of three workers call again and again; all workers get the same.

    At most rates the time of a place was an overflow. So a place was void, and one worker had all tokens.
    """
    passed = [0, 0, 0]

    async def caller(vt: VirtualTime, limits: list[Limit], worker: int) -> None:
        while vt.now < began + 120 / rate:
            async with limits[worker]:
                passed[worker] += 1
            await anyio.sleep(0.4 / rate)

    async def main(vt: VirtualTime) -> None:
        limits = workers(3, f"{rate}/s", burst=1, max_wait=30)
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(caller, vt, limits, number // 4)

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt))
    assert sum(passed) > 120
    assert max(passed) - min(passed) <= 4


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_that_leaves_lets_those_behind_it_move_up(backend: str) -> None:
    """Of four waiting calls of a worker the first is cancelled; the others pass a tenth of a second sooner."""
    passed: list[float] = []

    async def call(vt: VirtualTime, limit: Limit, scope: anyio.CancelScope) -> None:
        with scope:
            async with limit:
                passed.append(round(vt.now - began, 3))

    async def main(vt: VirtualTime) -> None:
        (limit,) = workers(1, "10/s", burst=1, max_wait=10)
        assert limit.try_acquire()
        scopes = [anyio.CancelScope() for _ in range(4)]
        async with anyio.create_task_group() as group:
            for scope in scopes:
                group.start_soon(call, vt, limit, scope)
                await anyio.sleep(0.001)
            scopes[0].cancel()

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend=backend)
    assert passed == [0.1, 0.2, 0.3]


def test_a_new_call_does_not_pass_a_call_that_waits_elsewhere() -> None:
    """While a call of one worker waits, what comes in is its own: another worker's new call is rejected."""
    seen: list[bool] = []

    async def wait(limit: Limit) -> None:
        async with limit:
            seen.append(True)

    async def main(vt: VirtualTime) -> None:
        one, other = workers(2, "10/s", burst=1, cost=1, max_wait=10)
        assert one.try_acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(wait, one)
            await anyio.sleep(0.05)
            seen.append(bool(other.try_acquire()))
            assert other.peek() == pytest.approx(0.15)

    with virtual_time() as vt:
        vt.run(lambda: main(vt))
    assert seen == [False, True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_wait_for_a_shared_window(backend: str) -> None:
    """Two workers, "2/10s": the third and fourth call pass when the first two have left the window."""
    passed: list[float] = []

    async def call(vt: VirtualTime, limit: Limit) -> None:
        async with limit:
            passed.append(round(vt.now - began, 3))

    async def main(vt: VirtualTime) -> None:
        limits = workers(2, "2/10s", max_wait=30)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(call, vt, limits[number % 2])
                await anyio.sleep(1)

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend=backend)
    assert passed == [0.0, 1.0, 10.0, 11.0]


# ---- what else is shared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["10/s", "10/10s"])
def test_a_pause_holds_back_all_workers(text: str) -> None:
    """A server's Retry-After, received by one worker, held back that worker only: the others went on."""
    with virtual_time() as vt:
        one, other = workers(2, text)
        one.pause(5)
        with pytest.raises(RateLimitedError) as caught:
            other.call(int)
        assert caught.value.reason == "paused"
        assert other.paused == 5.0
        vt.advance(5.0)
        assert admitted([one, other], 10) == 0
        vt.advance(1.0)
        assert admitted([one, other], 10) == (10 if text == "10/s" else 1)  # a window passes them at the rate


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_calls_wait_for_the_end_of_a_pause_elsewhere(backend: str) -> None:
    """A call that waits in one worker when another one is paused passes after the pause, not at its time."""
    passed: list[float] = []

    async def call(vt: VirtualTime, limit: Limit) -> None:
        async with limit:
            passed.append(round(vt.now - began, 3))

    async def main(vt: VirtualTime) -> None:
        one, other = workers(2, "10/s", burst=1, max_wait=1)
        assert one.try_acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(call, vt, one)
            group.start_soon(call, vt, one)
            await anyio.sleep(0.05)
            other.pause(3)

    with virtual_time() as vt:
        began = vt.now
        vt.run(lambda: main(vt), backend=backend)
    assert passed == [3.15, 3.25]


def test_what_one_worker_observes_lowers_it_for_all() -> None:
    """The server's own count, seen by one worker, is not taken twice when another one sees it as well."""
    with virtual_time():
        for one, other in (workers(2, "100/s"), workers(2, "100/10s")):
            one.observe(requests=30)
            other.observe(requests=30)
            assert other.available == {"requests": 30.0}
            other.reset()
            assert one.available == {"requests": 100.0}


def test_a_settled_estimate_is_settled_for_all() -> None:
    """What a reservation gives back, or takes more, is seen by the other workers."""
    with virtual_time():
        one, other = workers(2, Rate("6000/min", unit="tokens", cost=10, burst=100))
        with one.reserve(tokens=50) as reserved:
            assert other.available == {"tokens": 50.0}
            reserved.settle(tokens=20)
            assert other.available == {"tokens": 80.0}
            reserved.settle(tokens=120)
        assert other.available == {"tokens": -20.0}


def test_another_stock_is_another_cell() -> None:
    """A changed rate is another stock: the policy goes over to a cell of its own, and back to the tokens it left."""
    with virtual_time():
        limit = rate_limit("10/s", name="stock of a test", scope="host")
        assert admitted([limit], 6) == 6
        limit.reconfigure(rates=("20/s",))
        assert limit.available == {"requests": 20.0}
        limit.reconfigure(rates=("10/s",), max_wait=3)
        assert limit.available == {"requests": 4.0}
        limit.reconfigure(scope="process")
        assert limit.available == {"requests": 4.0}
        assert limit.snapshot().sharing is None
        assert admitted([limit], 6) == 4


# ---- keys ------------------------------------------------------------------------------------------------------------


def keyed_workers(n: int, make: Callable[[], Any], max_keys: int = 100) -> list[Callable[[str], Limit]]:
    """Return functions that find the limit of a key, as those of `n` processes."""
    region = Region.private()
    members = [region.join() for _ in range(n)]

    def worker(member: Any) -> Callable[[str], Limit]:
        limits: dict[str, Limit] = {}

        def of(key: str) -> Limit:
            if key not in limits:
                limits[key] = made = make()
                kind, stock, size = made._gate.keys_wanted(max_keys)
                made._gate.share_key(region.cell(kind, "limit", stock, size, member), key.encode())
            return limits[key]

        return of

    return [worker(member) for member in members]


@pytest.mark.parametrize(("text", "most"), [("10/s", 10), ("10/min", 10)])
def test_each_key_has_one_limit_in_all_workers(text: str, most: int) -> None:
    """A user who reaches four workers has one limit, and takes nothing from other users."""
    with virtual_time() as vt:
        found = keyed_workers(4, lambda: rate_limit(text, scope="process"))
        for _ in range(3):
            for user in ("ada", "bob"):
                assert admitted([of(user) for of in found], 40) == most
            vt.advance(100.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_key_with_a_window_never_passes_more_than_its_limit(seed: int) -> None:
    """A key's window counts in quarters: at most 20 in any 10 s, and all that one had made 12.5 s ago is forgotten."""
    draw = random.Random(seed)
    calls: list[float] = []
    with virtual_time() as vt:
        found = keyed_workers(3, lambda: rate_limit("20/10s", scope="process"))
        for _ in range(2000):
            vt.advance(draw.choice([0.0, 0.01, 0.3, draw.expovariate(3)]))
            permit = draw.choice(found)("ada").try_acquire()
            if permit:
                calls.append(vt.now)
                assert sum(at > vt.now - 10.0 for at in calls) <= 20
            else:
                assert sum(at > vt.now - 12.5 for at in calls) >= 20
    assert len(calls) > 200


@pytest.mark.parametrize("hours", [0.1, 6.0, 9.0, 11.3, 500.0])
def test_a_key_s_window_forgets_however_old_the_region_is(hours: float) -> None:
    """A new key took a clock that is behind for its age after six hours, and then rejected for five."""
    with virtual_time() as vt:
        (of,) = keyed_workers(1, lambda: rate_limit("20/10s", scope="process"))
        vt.advance(hours * 3600.0)
        for _ in range(3):
            assert admitted([of("ada")], 40) == 20
            vt.advance(20.0)


def test_a_key_that_comes_back_has_forgotten_its_window() -> None:
    """It was rejected if it came back after six to eleven hours."""
    with virtual_time() as vt:
        (of,) = keyed_workers(1, lambda: rate_limit("20/10s", scope="process"))
        for _ in range(4):
            assert admitted([of("ada")], 40) == 20
            vt.advance(8 * 3600.0)


def test_keys_beyond_the_table_share_what_is_left() -> None:
    """With all places of a set in use, new keys share one limit: no key is let pass without one."""
    with virtual_time():
        (of,) = keyed_workers(1, lambda: rate_limit("10/s", scope="process"), max_keys=4)  # eight places
        assert [admitted([of(str(key))], 20) for key in range(8)] == [10] * 8
        assert sum(admitted([of(str(key))], 20) for key in range(8, 16)) == 10


def test_a_limit_of_a_key_outlives_its_policy() -> None:
    """`keyed(..., scope="host")` keeps a key's tokens in the host's table: its policy may go, though it is not full."""
    with virtual_time():
        users = keyed(lambda: rate_limit("10/s"), key="user", name="users of a test", scope="host", max_keys=1)
        assert admitted([users["ada"]], 7) == 7
        assert admitted([users["bob"]], 20) == 10
        assert list(users) == ["bob"]
        assert admitted([users["ada"]], 7) == 3
