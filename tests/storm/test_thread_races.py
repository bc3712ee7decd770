"""
Races on breaker, limiter and bulkhead: exact totals, never above capacity, and proof that threads did race.

Each step sees how many others are in their step at the same time; a test in which that never happened has shown
nothing, and fails. Time is virtual and stands still, so that every total is exact.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from resilio import PipelineWarning, RejectedError, adaptive_limit, bulkhead, circuit_breaker, pipeline, rate_limit
from resilio.testing import VirtualTime, assert_no_leaks
from storm.racing import at_once, turns

THREADS = 6

pytestmark = pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.PipelineWarning")


class Race:
    """Runs a step in several threads at once, and counts who met whom."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.met = 0
        self.results: Counter[Any] = Counter()
        self.winners: set[int] = set()

    def run(self, step: Callable[[int], Any], steps: int) -> Counter[Any]:
        """Run `steps` steps in each thread; return how often each result came."""

        def work(me: int) -> None:
            for _ in range(steps):
                self.note(me, step(me))

        at_once(*(partial(work, me) for me in range(THREADS)))
        return self.results

    def note(self, me: int, result: Any) -> None:
        """Count a result."""
        with self.lock:
            self.results[result] += 1
            if result:
                self.winners.add(me)

    def enter(self, most: int) -> None:
        """Count who is inside, and check that it is at most `most`."""
        with self.lock:
            self.met += self.inside > 0
            self.inside += 1
            assert self.inside <= most, f"{self.inside} inside, {most} allowed"

    def leave(self) -> None:
        """Count who is inside no more."""
        with self.lock:
            self.inside -= 1


@pytest.fixture
def race() -> Iterator[Race]:
    """Let threads take turns as often as they can."""
    with turns():
        yield Race()


def give_way() -> None:
    """Let another thread come in between."""
    time.sleep(0)


def taken(policy: Any) -> bool:
    """Try to take a permit, give way, and return whether it was granted."""
    granted = bool(policy.try_acquire())
    give_way()
    return granted


def test_a_bulkhead_never_lets_in_more_than_its_permits(race: Race) -> None:
    """Rejections prove the contention; the counters add up to the last call."""
    pool = bulkhead(3)

    def step(_: int) -> bool:
        permit = pool.try_acquire()
        if not permit:
            return False
        race.enter(3)
        give_way()
        race.leave()
        permit.success()
        return True

    results = race.run(step, 3000)
    snapshot = pool.snapshot()
    assert (snapshot.successes, snapshot.rejected) == (results[True], results[False])
    assert snapshot.calls == THREADS * 3000
    assert race.met > 0
    assert results[False] > 0
    assert_no_leaks(pool)


def test_an_adaptive_limit_counts_and_learns_exactly(race: Race) -> None:
    """Threads that race for permits take no more than there are, and each end that teaches teaches once."""
    limit = adaptive_limit(law="aimd", start=2, floor=2, ceiling=3)

    def step(number: int) -> bool:
        permit = limit.try_acquire()
        if not permit:
            return False
        race.enter(3)
        give_way()
        race.leave()
        if number % 50 == 0:
            permit.failure()
        else:
            permit.success()
        return True

    results = race.run(step, 3000)
    snapshot = limit.snapshot()
    assert snapshot.successes + snapshot.failures == results[True]
    assert snapshot.rejected == results[False] > 0
    assert 2 <= snapshot.learned <= 3
    assert race.met > 0
    assert limit.used == 0
    assert_no_leaks(limit)


def test_a_bulkhead_admits_all_who_queue(race: Race) -> None:
    """Blocked threads are handed the permits of others, and none is lost: everybody gets in, two at a time."""
    pool = bulkhead(2, max_queued=THREADS, max_wait=60)
    waited = Counter[bool]()

    @pool
    def call() -> bool:
        race.enter(2)
        waited[pool.snapshot().queued > 0] += 1
        give_way()
        race.leave()
        return True

    results = race.run(lambda _: call(), 1000)
    assert results == {True: THREADS * 1000}
    assert waited[True] > 0
    assert race.met > 0
    assert_no_leaks(pool)


def test_a_limit_gives_out_exactly_its_tokens(race: Race, vt: VirtualTime) -> None:
    """While the clock stands, six threads get exactly the burst together, and more than one of them gets some."""
    limit = rate_limit("1/s", burst=5000)
    results = race.run(lambda _: taken(limit), 2000)
    assert results == {True: 5000, False: THREADS * 2000 - 5000}
    assert len(race.winners) > 1
    vt.advance(7)
    assert sum(bool(limit.try_acquire()) for _ in range(10)) == 7


def test_several_rates_are_taken_all_or_none(race: Race, vt: VirtualTime) -> None:
    """Of two rates the smaller decides, and the larger has lost exactly as much."""
    limit = rate_limit("1/s", burst=3000), rate_limit("1/s", burst=8000)
    stack = pipeline(*reversed(limit))
    results = race.run(lambda _: taken(stack), 1000)
    assert results == {True: 3000, False: THREADS * 1000 - 3000}
    assert limit[1].available["requests"] == pytest.approx(5000)
    assert_no_leaks(*limit)


def test_settled_reservations_leave_exactly_what_was_used(race: Race, vt: VirtualTime) -> None:
    """Estimates that are corrected at once from six threads leave the bucket with what was truly used."""
    limit = rate_limit("1/s", burst=100_000)

    def step(_: int) -> bool:
        with limit.reserve(requests=10) as reservation:
            give_way()
            reservation.settle(requests=3)
        return True

    race.run(step, 1000)
    assert limit.available["requests"] == pytest.approx(100_000 - 3 * THREADS * 1000)


def test_a_breaker_counts_every_outcome(race: Race) -> None:
    """Successes and failures of six threads are all there."""
    breaker = circuit_breaker(consecutive=None, min_calls=1_000_000, window="1h")

    def step(me: int) -> bool:
        permit = breaker.try_acquire()
        give_way()
        if me % 2:
            permit.success()
        else:
            permit.failure()
        return bool(me % 2)

    results = race.run(step, 3000)
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.failures) == (results[True], results[False])
    assert (snapshot.window_calls, snapshot.inflight) == (THREADS * 3000, 0)
    assert snapshot.window_failures == results[False]


def test_a_half_open_breaker_leases_one_probe_at_a_time(race: Race, vt: VirtualTime) -> None:
    """However many threads ask in the moment that it may probe, one gets the lease; the others are rejected."""
    breaker = circuit_breaker(consecutive=1, open_for=1.0, max_open_for=1.0, probe_lease=3600)

    def step(_: int) -> bool:
        permit = breaker.try_acquire()
        if permit:
            race.enter(1)
            give_way()
            race.leave()
            permit.ignore()  # says nothing: the lease goes back, and the next may probe
        give_way()
        return bool(permit)

    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            breaker.call(lambda: 1 / 0)
        vt.advance(1)
        results = race.run(step, 100)
        assert breaker.snapshot().probes == 0
        breaker.reset()
    assert results[True] > 0
    assert results[False] > 0
    assert len(race.winners) > 1


def test_one_failure_among_many_trips_once(race: Race, vt: VirtualTime) -> None:
    """Six threads that all fail at once open the breaker once, not six times."""
    breaker = circuit_breaker(consecutive=3, open_for=1.0)
    barrier = threading.Barrier(THREADS)

    def step(_: int) -> bool:
        permit = breaker.try_acquire()
        barrier.wait()
        permit.failure()
        barrier.wait()
        return True

    for turn in range(1, 51):
        race.run(step, 1)
        assert breaker.state == "open"
        assert breaker.snapshot().generation == 2 * turn
        breaker.reset()


def test_a_stack_admits_all_or_none(race: Race, vt: VirtualTime) -> None:
    """Limit, breaker and bulkhead together: a rejection further in gives every token and permit back."""
    limit, breaker, pool = rate_limit("1/s", burst=4000), circuit_breaker(), bulkhead(1)

    @pipeline(limit, breaker, pool)
    def call() -> bool:
        race.enter(1)
        give_way()
        race.leave()
        return True

    def step(_: int) -> bool:
        try:
            return call()
        except RejectedError:
            return False

    results = race.run(step, 500)
    assert results[True] > 0
    assert results[False] > 0
    assert limit.available["requests"] == pytest.approx(4000 - results[True])
    assert_no_leaks(limit, breaker, pool)
