"""A server that is offered too much, reproduced: a few of the cells of `python -m benchmarks.efficacy.overload`."""

from __future__ import annotations

import math

import pytest

from resilio import bulkhead, load_shed

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

CALLS = 10_000


@pytest.fixture(scope="module")
def cells(efficacy):
    """The cells of R11."""
    return efficacy("_cells")


@pytest.fixture(scope="module")
def guarded(efficacy):
    """The real policies as fronts."""
    return efficacy("_guarded")


@pytest.fixture(scope="module")
def baselines(efficacy):
    """The disciplines."""
    return efficacy("_baselines")


def test_a_real_gate_decides_as_the_same_discipline_does(cells, guarded, baselines):
    """A bulkhead is a limit; one with a queue is a bounded queue: the very same calls are served at the same times."""
    cell = cells.Cell(4, 1.0, 1.5)
    limit = cells.figures(baselines.BASELINES["limit = 2c"], cell, CALLS, 1)
    queue = cells.figures(lambda _: baselines.Fifo(most=4), cell, CALLS, 1)
    with guarded.on_virtual_time():
        assert cells.figures(lambda _: guarded.Rejecting(bulkhead(8)), cell, CALLS, 1) == limit
        waiting = cells.figures(
            lambda _: guarded.Queueing(bulkhead(4, max_queued=4, max_wait=1e3), deadlines=True), cell, CALLS, 1
        )
    assert (waiting.goodput, waiting.p99) == pytest.approx((queue.goodput, queue.p99), rel=1e-6)


@pytest.mark.parametrize("load", [0.7, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("workers", [4, 10])
def test_a_shedder_that_knows_the_workers_meets_all_musts(cells, guarded, workers, load):
    """As much in time as the best baseline less 2 %, 0.95 of what can be, and latencies as without overload."""
    cell = cells.Cell(workers, 1.0, load)
    with guarded.on_virtual_time():
        seen = cells.judged(lambda _: guarded.Queueing(load_shed(max_concurrent=workers), deadlines=True), cell, CALLS)
    assert seen.missed == "", seen


def test_a_shedder_that_has_to_learn_the_workers_serves_nearly_as_much(cells, guarded):
    """It is told nothing; 0.96 of the best baseline."""
    with guarded.on_virtual_time():
        seen = cells.judged(lambda _: guarded.Queueing(load_shed(), deadlines=False), cells.Cell(10, 1.0, 1.5), CALLS)
    assert seen.of_best > 0.96
    assert seen.slower < 1.5


def test_a_shedder_is_back_at_once_after_a_slow_step(cells, guarded):
    """Within 200 mean times of service, 2 s where one is 10 ms."""
    with guarded.on_virtual_time():
        back = cells.returned(
            lambda _: guarded.Queueing(load_shed(max_concurrent=10), deadlines=True), cells.Cell(10, 1.0, 0.9), steps=3
        )
    assert back <= cells.BACK


def test_what_fails_in_a_simulated_call_is_not_hidden(cells, guarded):
    """A front that raises ends the run with its exception."""

    class Broken:
        def __call__(self, function):
            async def broken(call):
                raise ZeroDivisionError

            return broken

    with guarded.on_virtual_time(), pytest.raises(ZeroDivisionError):
        cells.figures(lambda _: guarded.Queueing(Broken(), deadlines=False), cells.Cell(4, 1.0, 0.5), 100, 1)


def test_late_answers_are_timeouts_to_a_limit_or_nothing_of_the_kind(cells, guarded):
    """As the front is told."""
    cell = cells.Cell(4, 2.0, 0.7)
    counts = []
    with guarded.on_virtual_time():
        for late in (True, False):
            pool = bulkhead(100)
            cells.figures(lambda _, pool=pool, late=late: guarded.Rejecting(pool, late), cell, CALLS, 1)
            counts.append(pool.snapshot().failures)
    assert counts[0] > 0 == counts[1]
    assert not math.isnan(counts[0])
