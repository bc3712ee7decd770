"""The workers, and the baselines before them: each does what it says, and the table of science reproduces."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def queueing(efficacy):
    """The workers."""
    return efficacy("_queueing")


@pytest.fixture(scope="module")
def baselines(efficacy):
    """What stands before them."""
    return efficacy("_baselines")


@pytest.fixture(scope="module")
def cells(efficacy):
    """The cells of R11."""
    return efficacy("_cells")


@pytest.fixture
def ends(queueing):
    """Lets a front serve calls that come at the times given and work for a second each, with one worker."""

    def serve(front, arrivals, *, workers=1, patience=10.0, step=None, sizes=None):
        sizes = sizes or [1.0] * len(arrivals)
        plan = queueing.Plan(workers, 1.0, patience, arrivals, sizes, 1.0, step or queueing.Step())
        return list(queueing.serve(front, plan).ends)

    return serve


EARLY = [0.0, 0.1, 0.2, 0.3]


def test_workers_serve_first_come_first_served(baselines, ends):
    """Nothing stands before them."""
    assert ends(baselines.Unbounded(), EARLY) == pytest.approx([1, 2, 3, 4])
    assert ends(baselines.Unbounded(), EARLY, workers=2) == pytest.approx([1, 1.1, 2, 2.1])


def test_work_begun_in_a_slow_step_takes_longer(baselines, ends, queueing):
    """A call that begins before or after it does not."""
    step = queueing.Step(0.5, 1.5, 10.0)
    assert ends(baselines.Unbounded(), EARLY, step=step) == pytest.approx([1, 11, 12, 13])


def test_lifo_serves_the_youngest(baselines, ends):
    """The oldest waits until nobody else does."""
    assert ends(baselines.Lifo(), EARLY) == pytest.approx([1, 4, 3, 2])


def test_a_bounded_queue_rejects_who_finds_it_full(baselines, ends):
    """One is served, two wait."""
    assert ends(baselines.Fifo(most=2), EARLY) == [1, pytest.approx(2), pytest.approx(3), math.inf]


@pytest.mark.parametrize(("needs", "served"), [(0.0, 3), (1.0, 2), (None, 4)])
def test_a_queue_drops_who_has_not_the_time_left(baselines, ends, needs, served):
    """Turns come at 1, 2 and 3 seconds, and callers wait for 2.5."""
    assert sum(end < math.inf for end in ends(baselines.Fifo(needs=needs), EARLY, patience=2.5)) == served


def test_codel_drops_the_late_only_after_a_bad_interval(baselines, ends):
    """In the first interval of 10 s everybody is served; then who waited for more than a second is not."""
    served = ends(baselines.CoDel(), [0.0] * 30, patience=100.0)
    assert served[:10] == pytest.approx(range(1, 11))
    assert math.inf in served[10:]
    assert ends(baselines.CoDel(), [float(at) for at in range(30)]) == pytest.approx(range(1, 31))


def test_a_limit_rejects_at_once(baselines, ends):
    """Two under way for one worker."""
    front = baselines.Limit(lambda workers: 2 * workers)
    assert ends(front, [*EARLY, 1.5]) == [1, pytest.approx(2), math.inf, math.inf, pytest.approx(3)]


def test_a_limit_tells_its_law_of_each_call(baselines, ends):
    """How long it took, how many were under way with it, and whether it was late."""
    seen = []

    class Recording(baselines.Law):
        limit = 3.0

        def sample(self, latency, inflight, dropped, now):
            seen.append((round(latency, 6), inflight, dropped, round(now, 6)))

    ends(baselines.Limit(Recording()), EARLY, patience=2.0)
    assert seen == [(1.0, 1, False, 1.0), (1.9, 2, False, 2.0), (2.8, 3, True, 3.0)]


def test_gradient_grows_on_steady_latencies_and_shrinks_on_longer_ones(baselines):
    """By windows of a second."""
    law = baselines.Gradient2()
    for tick in range(3000):
        law.sample(0.01, 100, False, tick * 0.01)
    high = law.limit
    assert high == pytest.approx(40, abs=12)  # 0.2 * 4 a second, from 20
    for tick in range(3000, 4000):
        law.sample(0.1, 100, False, tick * 0.01)
    assert 20 <= law.limit < high


def test_vegas_grows_without_a_queue_and_shrinks_with_one(baselines):
    """The queue is the limit times the share of the latency above the least."""
    law = baselines.Vegas()
    for tick in range(1000):
        law.sample(0.01, 100, False, tick * 0.01)
    high = law.limit
    assert high > 30
    for tick in range(1000, 3000):
        law.sample(0.1, 100, False, tick * 0.01)
    assert law.limit < high
    low = law.limit
    law.learn(0.01, 1, False)
    assert law.limit == low  # it is hardly used
    law.learn(0.01, 1, True)
    assert law.limit < low  # a drop counts all the same


@pytest.mark.parametrize(("factor", "must"), [(1, 0.8846), (2, 0.998)])
def test_a_limit_gives_the_throughput_of_the_formula(cells, baselines, factor, must):
    """M/M/10/10 is Erlang's loss formula, M/M/10/20 the one with ten places to wait; at a load of 1.5."""
    make = baselines.BASELINES["limit = c" if factor == 1 else "limit = 2c"]
    served = cells.figures(make, cells.Cell(10, 1.0, 1.5), 50_000, 1)
    assert served.goodput == pytest.approx(must, abs=0.008)


# The table of the study, c = 10, exponential, 10 ms, deadline 100 ms: goodput by load.
PUBLISHED = {
    "FIFO unbounded": {0.7: 0.700, 0.9: 0.898, 1.5: 0.000},
    "drop expired": {0.9: 0.898, 1.5: 0.157, 2.0: 0.093},
    "drop if < 3 means left": {1.0: 0.980, 1.5: 0.945, 2.0: 0.953},
    "LIFO": {0.9: 0.883, 1.0: 0.939, 2.0: 1.000},
    "CoDel-FB": {0.9: 0.898, 1.0: 0.953, 2.0: 1.000},
    "Gradient2": {1.0: 0.968, 1.2: 0.999, 2.0: 1.000},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_baselines_reproduce_the_published_goodput(cells, baselines, name):
    """Within the noise of one seed, .015."""
    make = baselines.BASELINES[name]
    for load, must in PUBLISHED[name].items():
        assert cells.figures(make, cells.Cell(10, 1.0, load), 30_000, 1).goodput == pytest.approx(must, abs=0.015)


def test_all_fronts_meet_the_same_calls(cells):
    """A plan is drawn from the seed alone."""
    one, two = (cells.Cell(4, 2.0, 0.7).plan(5.0, 3) for _ in range(2))
    assert (one.arrivals, one.sizes) == (two.arrivals, two.sizes)
    assert sum(one.sizes) / len(one.sizes) == pytest.approx(0.01, rel=0.2)


def test_random_cells_repeat_and_stay_within_their_ranges(cells):
    """The same seed draws the same cells, another one others."""
    drawn = list(cells.drawn(50, 7))
    assert drawn == list(cells.drawn(50, 7)) != list(cells.drawn(50, 8))
    for cell in drawn:
        assert 1 <= cell.workers <= 200
        assert 0.3 <= cell.load <= 4
        assert 1e-4 <= cell.mean <= 30
        assert "load" in str(cell)


def test_a_verdict_names_the_musts_that_were_missed(cells, baselines):
    """A limit equal to the workers loses Erlang's share; an unbounded queue misses all three."""
    calls, seed = 10_000, 1
    lost = cells.judged(baselines.BASELINES["limit = c"], cells.Cell(10, 1.0, 0.9), calls, seed)
    assert (lost.missed, lost.figures.p99 < 5) == ("BF", True)
    swamped = cells.judged(baselines.BASELINES["FIFO unbounded"], cells.Cell(10, 1.0, 1.5), calls, seed)
    assert swamped.missed == "BFP"
    best = cells.reference(cells.Cell(10, 1.0, 0.5), calls, seed).best
    assert cells.judged(baselines.BASELINES[best], cells.Cell(10, 1.0, 0.5), calls, seed).missed == ""


def test_after_a_slow_step_a_bounded_delay_is_back_and_an_unbounded_queue_is_not(cells, baselines):
    """It has too much to catch up with."""
    cell = cells.Cell(10, 1.0, 0.9)
    assert cells.returned(baselines.BASELINES["CoDel-FB"], cell, steps=3) <= 100
    assert math.isinf(cells.returned(baselines.BASELINES["FIFO unbounded"], cell, steps=3))


def test_cells_are_shown_with_the_best_baseline(cells, baselines, capsys):
    """A line each, for those who tune against them."""
    cells.show({"mine": baselines.BASELINES["limit = 2c"]}, [cells.Cell(10, 1.0, 1.5)], calls=5_000)
    out = capsys.readouterr().out
    assert out.startswith("c=10 exponential load 1.5")
    assert "| mine 0.9" in out
