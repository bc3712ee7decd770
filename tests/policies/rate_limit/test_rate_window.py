"""A small limit is an exact sliding window: that many in any such period, all at once if need be."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilio import Rate, current, rate_limit
from resilio._policies.rate_limit.policy import RateLimitConfig
from resilio.testing import virtual_time

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def passes(limit: Any, calls: int) -> int:
    """Return how many of so many calls pass now."""
    return sum(bool(limit.try_acquire()) for _ in range(calls))


def test_ten_a_minute_are_ten_at_once_and_the_eleventh_when_the_first_is_a_minute_old(vt):
    """A second call within six seconds was rejected, where every other library lets ten pass."""
    limit = rate_limit("10/min")
    assert passes(limit, 4) == 4
    vt.advance(10)
    assert passes(limit, 20) == 6
    assert limit.try_acquire().retry_after == 50
    vt.advance(49.999)
    assert passes(limit, 1) == 0
    vt.advance(0.001)
    assert passes(limit, 20) == 4


@pytest.mark.parametrize(
    ("rate", "is_window"),
    [
        (Rate("10/min"), True),
        (Rate("1000/h"), True),
        (Rate("5/2s"), True),
        (Rate("1001/h"), False),
        (Rate("10/s"), False),
        (Rate("100/1s"), False),
        (Rate("2.5/min"), False),
        (Rate("0.5/min"), False),
        (Rate("10/min", burst=10), False),
        (Rate("10/min", unit="tokens"), False),
        (Rate("10/min", cost=11), False),
        (Rate("10/min", cost=3), True),
    ],
)
def test_which_rates_are_windows(rate, is_window):
    """Whole numbers of up to 1,000 requests in more than a second, without `burst`; the others are token buckets."""
    assert rate.is_window is is_window


@given(steps=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5)), max_size=60))
def test_no_period_has_more_than_the_count(steps):
    """Whatever comes when: of two limits both hold, in every window that ends with a call that passed."""
    with virtual_time() as vt:
        limit = rate_limit("5/2s", "8/5s")
        passed: list[int] = []
        for wait, calls in steps:
            vt.advance(wait / 1000)
            passed += [round(vt.now * 1000)] * passes(limit, calls)
        for end in passed:
            assert sum(end - 2000 < at <= end for at in passed) <= 5
            assert sum(end - 5000 < at <= end for at in passed) <= 8


@BACKENDS
def test_after_a_pause_waiters_pass_at_the_rate(vt, backend):
    """A server that has asked for a pause is not met by ten calls at once when it is over."""
    limit = rate_limit("10/min", max_wait=600)
    served: list[float] = []

    async def call() -> None:
        async with limit:
            served.append(vt.now)

    async def main() -> None:
        limit.pause(30)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(call)
            await anyio.sleep(1)
            assert limit.peek() == 30 + 5 * 6 - 1

    vt.run(main, backend=backend)
    assert served == [36, 42, 48, 54]


@BACKENDS
def test_waiters_come_in_order_at_the_times_that_were_computed(vt, backend):
    """Six wait behind three a minute: each knows on arrival when it will pass, and one that leaves makes room."""
    limit = rate_limit("3/min", max_wait=600)
    served: list[tuple[int, float]] = []

    async def call(number: int) -> None:
        async with limit:
            served.append((number, vt.now))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(9):
                assert limit.peek() == 60 * (number // 3)
                group.start_soon(call, number)
                for _ in range(4):
                    await anyio.lowlevel.checkpoint()
            with anyio.move_on_after(5):
                await limit.aacquire()
            assert limit.peek() == 175

    vt.run(main, backend=backend)
    assert sorted(served) == [(number, 60.0 * (number // 3)) for number in range(9)]  # trio shuffles those of a moment


def test_what_a_call_gives_back_is_its_own(vt):
    """A call that was rejected further in leaves the window; one that is older than the window has left it already."""
    limit = rate_limit("2/min")
    early = limit.try_acquire()
    vt.advance(30)
    late = limit.try_acquire()
    late.cancel()
    assert passes(limit, 2) == 1
    vt.advance(31)
    early.cancel()
    assert passes(limit, 2) == 1


def test_costs_debts_and_what_a_server_says(vt):
    """Costs are numbers of calls; a debt is waited out; `observe` and `pause` hold as they do for a token bucket."""
    limit = rate_limit("10/min", cost=lambda n=1, used=0: n)

    @limit
    def ask(n: int, used: int) -> None:
        current().settle(limit, requests=used)

    ask(8, 3)
    assert limit.available == {"requests": 7}
    ask(7, 12)
    assert limit.available == {"requests": -5}
    assert limit.peek(1) == 60
    assert limit.peek(11) == float("inf")
    limit.reset()
    limit.observe(requests=2)
    assert passes(limit, 5) == 2
    limit.reset()
    limit.pause(5)
    assert (passes(limit, 1), limit.peek()) == (0, 11)
    for _ in range(10):
        vt.advance(11 if limit.peek() == 11 else 6)
        assert passes(limit, 3) == 1
    vt.advance(60)
    assert passes(limit, 20) == 10


def test_a_change_of_the_rate_keeps_what_was_taken(vt):
    """A window remembers its calls; between a window and a token bucket the tokens are kept."""
    limit = rate_limit("10/min")
    assert passes(limit, 8) == 8
    limit.reconfigure(rates=("5/min",))
    assert limit.available == {"requests": -3}
    limit.reconfigure(rates=("20/2min",))
    assert limit.available == {"requests": 12}
    vt.advance(119)
    assert limit.available == {"requests": 12}
    vt.advance(1)
    assert limit.available == {"requests": 20}
    assert passes(limit, 15) == 15
    limit.reconfigure(rates=("100/s",))
    assert limit.available == {"requests": 5}
    limit.reconfigure(rates=("10/min",))
    assert limit.available == {"requests": 5}


def test_many_small_costs_are_counted_in_little_room_and_never_too_few(vt):
    """Fractions share entries: then tokens come back later than they could, never earlier."""
    limit = rate_limit("4/min", cost=lambda n=1.0: n)
    for _ in range(40):
        assert limit.try_acquire(0.1)
        vt.advance(1)
    assert not limit.try_acquire(0.1)
    vt.advance(61)
    assert limit.available == {"requests": 4}
    assert sys.getsizeof(limit._gate) - sys.getsizeof(rate_limit("4/s")._gate) <= 1200


def test_many_small_costs_below_the_limit_all_pass(vt):
    """
    Dollars against "10/h": nine an hour, spent in cents, were rejected for five hours after the first.

    All cents but the first few shared one entry, which was dated anew at each of them, so nothing left the window.
    """
    limit = rate_limit("10/h", cost=lambda dollars=1.0: dollars)
    for _ in range(4 * 360):
        vt.advance(10)
        assert limit.try_acquire(0.025)


@given(steps=st.lists(st.tuples(st.integers(1, 100), st.integers(1, 60)), min_size=100, max_size=300))
def test_small_costs_are_never_too_many_and_hardly_too_few(steps):
    """In any period at most the limit; and what is rejected would not have fit into one that is a 32nd longer."""
    with virtual_time() as vt:
        limit = rate_limit("2/10s", cost=lambda cents=1: cents / 100)
        passed: list[tuple[int, int]] = []
        for wait, cents in steps:
            vt.advance(wait / 1000)
            now = round(vt.now * 1000)
            if limit.try_acquire(cents):
                passed.append((now, cents))
                assert sum(n for at, n in passed if at > now - 10_000) <= 200
            else:
                assert sum(n for at, n in passed if at > now - 10_000 - 10_000 / 32 - 1) + cents > 200


def test_calls_that_cost_nothing_delay_no_others_after_a_pause(vt):
    """They pass freely, and put off a call that costs something for as long as they came."""
    limit = rate_limit("10/min", cost=lambda n=1: n, max_wait=60)
    limit.pause(5)
    vt.advance(5)
    for _ in range(11):
        assert (limit.peek(1), bool(limit.try_acquire(0))) == (pytest.approx(11 - vt.now), True)
        vt.advance(0.5)
    vt.advance(0.5)
    assert limit.try_acquire(1)


@BACKENDS
def test_waiters_that_cost_nothing_delay_no_others_after_a_pause(vt, backend):
    """What each will wait for is computed as it comes to pass."""
    limit = rate_limit("10/min", cost=lambda n=1: n, max_wait=60)
    served: list[tuple[int, float]] = []

    @limit
    async def call(cost: int) -> None:
        served.append((cost, vt.now))

    async def main() -> None:
        limit.pause(5)
        async with anyio.create_task_group() as group:
            for cost in (1, 0, 1):
                group.start_soon(call, cost)
                for _ in range(4):
                    await anyio.lowlevel.checkpoint()
            assert limit.peek(1) == 5 + 3 * 6

    vt.run(main, backend=backend)
    assert sorted(served) == [(0, 11.0), (1, 11.0), (1, 17.0)]


@pytest.mark.parametrize("after", ["100/s", "10/s", "20/min"])
@pytest.mark.parametrize("before", ["100/s", "10/s", "10/min"])
def test_a_change_during_a_pause_keeps_the_pause(vt, before, after):
    """Nothing passes before its end, and then at the new rate: a full burst did, or nothing for minutes."""
    limit = rate_limit(before)
    limit.pause(30)
    vt.advance(10)
    limit.reconfigure(rates=(after,))
    each = {"100/s": 0.01, "10/s": 0.1, "20/min": 3.0}[after]
    assert passes(limit, 1) == 0
    vt.advance(20 + 0.99 * each)
    assert passes(limit, 5) == 0
    vt.advance(0.02 * each)
    assert passes(limit, 5) == 1


def test_memory_grows_with_use(vt):
    """A key that makes few calls pays for few, whatever its limit."""
    limit, bucket = rate_limit("1000/h"), rate_limit("1000/s")
    few = sys.getsizeof(limit._gate)
    assert few - sys.getsizeof(bucket._gate) <= 128
    for _ in range(1000):
        assert limit.try_acquire()
        vt.advance(0.001)
    assert sys.getsizeof(limit._gate) - few == 1024 * 16


def test_the_burst_in_force_is_the_count():
    """Lint and people read it off the rate."""
    assert RateLimitConfig(rates=("10/min",)).resolved()[0].largest_burst == 10
    assert RateLimitConfig(rates=("600/min",), burst=1).resolved()[0].largest_burst == 1
