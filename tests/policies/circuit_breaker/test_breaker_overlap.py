"""What a failure says to a breaker where calls overlap: failures end first, and that is no news of the others."""

from __future__ import annotations

import asyncio
import random

import pytest

from resilio import bulkhead, circuit_breaker, pipeline
from resilio.errors import BulkheadFullError, CircuitOpenError


class Broken(Exception):
    """What the dependency raises."""


def serve(vt, breaker, sizes, *, failing, after, seed, pause=1.0, within=0.0):
    """
    Call in batches by `asyncio.gather`; return how many calls the dependency would answer, and how many it did.

    Failures end after so long, and as much later as is drawn for each, `within` seconds at most.
    """
    draw = random.Random(seed)
    possible, answered = 0, 0

    async def call(fails, seconds):
        nonlocal answered
        try:
            async with breaker:
                await asyncio.sleep(seconds)
                if fails:
                    raise Broken
                answered += 1
        except (Broken, CircuitOpenError):
            pass

    async def main():
        nonlocal possible
        for size in sizes:
            fates = [draw.random() < failing for _ in range(size)]
            possible += size - sum(fates)
            calls = [
                call(fails, after + within * draw.random() if fails else draw.uniform(0.02, 0.5)) for fails in fates
            ]
            await asyncio.gather(*calls)
            await asyncio.sleep(pause)

    vt.run(main)
    return possible, answered


@pytest.mark.parametrize(
    ("size", "failing"), [(100, 0.12), (500, 0.05), (1000, 0.12), (50, 0.2), (10, 0.3), (100, 0.02), (500, 0.2)]
)
@pytest.mark.parametrize("after", [0.0, 0.1])
@pytest.mark.parametrize("seed", [5, 17, 2027])
def test_a_batch_of_which_a_part_fails_at_once_is_served(vt, size, failing, after, seed):
    """Of 100 calls at a time 12 failed at once: ten "in a row" opened the breaker, and it answered .36 of the calls."""
    breaker = circuit_breaker()
    possible, answered = serve(vt, breaker, [size] * (3000 // size), failing=failing, after=after, seed=seed)
    assert answered >= 0.98 * possible


@pytest.mark.parametrize("seed", [5, 17, 2027])
def test_failures_of_a_batch_end_in_any_order(vt, seed):
    """Those that had begun before the first to fail were taken for ten in a row: .74 of the calls were answered."""
    possible, answered = serve(vt, circuit_breaker(), [200] * 15, failing=0.18, after=0.001, within=0.0005, seed=seed)
    assert answered == possible


@pytest.mark.parametrize("seed", [5, 17, 2027])
def test_timeouts_at_the_end_of_a_batch_are_old_news(vt, seed):
    """The 12 of 100 calls that time out end last, after all others have succeeded: they are no failures in a row."""
    possible, answered = serve(vt, circuit_breaker(), [100] * 20, failing=0.12, after=1.0, seed=seed)
    assert answered == possible


@pytest.mark.parametrize("under_way", [0, 1, 20, 500])
def test_a_total_failure_is_seen_at_the_tenth_call_whatever_is_under_way(vt, under_way):
    """Calls that began before the outage and succeed during it kept a breaker closed for as long as they lasted."""
    breaker = circuit_breaker()
    for _ in range(300):
        breaker.try_acquire().success()
    before = [breaker.try_acquire() for _ in range(under_way)]
    sent = 0
    while breaker.state == "closed":
        permit = breaker.try_acquire()
        if before:
            before.pop().success()
        permit.failure()
        sent += 1
    assert sent == 10


def test_calls_that_hang_do_not_hide_that_the_others_fail(vt):
    """Half of the calls hang, half fail at once: what hangs for longer than calls take is no hope."""
    breaker = circuit_breaker()
    for _ in range(100):
        permit = breaker.try_acquire()
        vt.advance(0.01)
        permit.success()
    hanging, started = [], vt.now
    while breaker.state == "closed":
        hanging.append(breaker.try_acquire())
        vt.advance(0.005)
        breaker.try_acquire().failure()
        vt.advance(0.005)
    assert vt.now - started <= 0.3
    assert len(hanging) >= 10


def test_a_success_of_a_call_that_began_in_the_row_ends_it(vt):
    """Nine failures, and a success of a call between them: the next failure is the first of a new row."""
    breaker = circuit_breaker(failure_rate=None)
    permits = [breaker.try_acquire() for _ in range(10)]
    for permit in permits[:4] + permits[5:]:
        permit.failure()
    assert breaker.snapshot().consecutive == 9
    permits[4].success()
    assert breaker.snapshot().consecutive == 0
    breaker.try_acquire().failure()
    assert (breaker.snapshot().consecutive, breaker.state) == (1, "closed")


@pytest.mark.parametrize("pause", [0.3, 1.0, 30.0])
def test_a_row_that_a_pause_interrupts_waits_for_the_calls_after_it(vt, pause):
    """The last call of one batch failed, a second later nine of the next at once: its calls were taken for overdue."""
    breaker = circuit_breaker()
    for _ in range(100):
        permit = breaker.try_acquire()
        vt.advance(0.02)
        permit.success()
    breaker.try_acquire().failure()
    vt.advance(pause)
    batch = [breaker.try_acquire() for _ in range(200)]
    for permit in batch[::10]:
        permit.failure()
    assert breaker.state == "closed"


def test_calls_that_were_never_made_are_no_hope(vt):
    """Four calls wait at a bulkhead inside, and are rejected there: a row of failures does not wait for them."""
    breaker, pool = circuit_breaker(consecutive=5, failure_rate=None), bulkhead(1, max_queued=4, max_wait=1.0)
    call = pipeline(breaker, pool)(asyncio.sleep)

    async def main():
        hanging = [breaker.try_acquire() for _ in range(10)], pool.try_acquire()
        breaker.try_acquire().failure()
        waiting = [asyncio.create_task(call(0.0)) for _ in range(4)]
        await asyncio.sleep(0.5)
        breaker.try_acquire().failure()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, BulkheadFullError) for error in ended)
        for _ in range(2):
            breaker.try_acquire().failure()
        assert breaker.state == "closed"
        breaker.try_acquire().failure()
        assert breaker.state == "open"
        del hanging

    vt.run(main)


@pytest.mark.parametrize("end", ["ignore", "cancel"])
@pytest.mark.parametrize("under_way", [0, 10])
def test_calls_that_are_given_up_between_failures_are_no_hope(vt, end, under_way):
    """After each failure a caller gave up: those calls counted as in flight, and the breaker opened four calls late."""
    breaker = circuit_breaker(consecutive=5, failure_rate=None)
    long = [breaker.try_acquire() for _ in range(under_way)]
    for _ in range(4):
        breaker.try_acquire().failure()
        getattr(breaker.try_acquire(), end)()
    assert breaker.state == "closed"
    breaker.try_acquire().failure()
    assert breaker.state == "open"
    del long
