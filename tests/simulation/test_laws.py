"""Laws of times and processes of arrivals: means, bounds, repetition, and what they reject."""

from __future__ import annotations

import math
import statistics
from itertools import islice
from random import Random

import pytest

from resilio.simulation import (
    Bursty,
    Constant,
    Empirical,
    Exponential,
    Law,
    Lognormal,
    Mixture,
    Pareto,
    Poisson,
    Regular,
    Trace,
    Uniform,
)

pytestmark = pytest.mark.once

LAWS = [
    Constant(0.01),
    Exponential(0.01),
    Uniform(0.005, 0.02),
    Lognormal(0.01, 0.5),
    Lognormal(0.01, 2.0),
    Lognormal.of_median(0.019, 0.54),
    Pareto(0.001, 2.5),
    Pareto(0.001, 1.0, maximum=1.0),
    Pareto(0.001, 0.8, maximum=0.1),
    Empirical([0.001, 0.002, 0.01, 0.04]),
    Mixture([(0.95, Exponential(0.005)), (0.05, Constant(0.1))]),
]


def draws(law: Law, count: int = 200_000, seed: int = 1) -> list[float]:
    draw = law.sampler(Random(seed))
    return [draw() for _ in range(count)]


@pytest.mark.untraced  # others trace the same lines in less time
@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_law_has_the_mean_that_it_says(law):
    """The mean of many draws is the law's, within 2 %; no time is negative."""
    drawn = draws(law)
    assert statistics.fmean(drawn) == pytest.approx(law.mean, rel=0.02)
    assert min(drawn) >= 0


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_law_repeats(law):
    """The same seed gives the same times."""
    assert draws(law, 100) == draws(law, 100)


@pytest.mark.untraced  # others trace the same lines in less time
def test_a_lognormal_law_has_the_spread_that_it_says():
    """Its standard deviation divided by its mean is cv."""
    drawn = draws(Lognormal(0.01, 1.0))
    assert statistics.stdev(drawn) / statistics.fmean(drawn) == pytest.approx(1.0, rel=0.05)


def test_a_lognormal_law_of_a_median_has_it():
    """Half of the times are below the median, and the logarithms spread as told."""
    drawn = draws(Lognormal.of_median(0.019, 0.54))
    assert statistics.median(drawn) == pytest.approx(0.019, rel=0.01)
    assert statistics.stdev(map(math.log, drawn)) == pytest.approx(0.54, rel=0.01)


def test_a_pareto_law_stays_in_its_bounds():
    """No time is below the minimum, or above the maximum; without one the mean may be infinite, and no draw is."""
    drawn = draws(Pareto(0.001, 0.01, maximum=0.5), 10_000)
    assert (min(drawn) >= 0.001, max(drawn)) == (True, pytest.approx(0.5))
    assert math.inf == Pareto(0.001, 1.0).mean
    assert max(draws(Pareto(0.001, 0.01), 10_000)) <= 1e8 * 1.000001


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1), "mean must be"),
        (lambda: Exponential(0), "mean must be"),
        (lambda: Exponential("10"), "mean must be"),
        (lambda: Uniform(0.2, 0.1), "high must be at least low=0.2"),
        (lambda: Lognormal(0.01, 0), "cv must be"),
        (lambda: Lognormal.of_median(0.01, float("nan")), "sigma must be"),
        (lambda: Pareto(0.01, 2, 0.001), "maximum must be at least minimum=0.01"),
        (lambda: Empirical([]), "samples must be"),
        (lambda: Empirical("abc"), "samples must be"),
        (lambda: Empirical([0.1, -0.1]), r"samples\[1\] must be"),
        (lambda: Mixture([]), "parts must be"),
        (lambda: Mixture([(0.5, Constant(1))]), "shares add up to 1"),
        (lambda: Mixture([(0.5, "constant"), (0.5, Constant(1))]), r"parts\[0\] must be"),
        (lambda: Poisson(0), "rate must be"),
        (lambda: Poisson(1e9), "rate must be"),
        (lambda: Bursty(1, 2, 0, 1), "calm must be"),
        (lambda: Trace([]), "at must be"),
        (lambda: Trace([1.0, 0.5]), r"at\[1\] must be at least the time before it, 1"),
    ],
)
def test_what_makes_no_sense_is_rejected(make, message):
    """The message names the parameter and the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("process", [Poisson(100), Regular(100), Bursty(50, 250, 3.0, 1.0)], ids=repr)
def test_a_process_has_the_rate_that_it_says(process):
    """As many tasks arrive as expected, in order; within 5 %."""
    times = list(islice(process.times(Random(1), lambda _: 1.0), 50_000))
    assert times == sorted(times)
    assert process.expected(times[-1]) == pytest.approx(len(times), rel=0.05)


def test_a_surge_multiplies_the_rate():
    """Twice as many tasks arrive while the factor is 2, whatever the process."""
    for process in (Poisson(100), Regular(100), Bursty(100, 100, 1.0, 1.0)):
        times = list(islice(process.times(Random(1), lambda now: 2.0 if now < 100 else 1.0), 25_000))
        assert sum(when < 100 for when in times) == pytest.approx(20_000, rel=0.05)


def test_bursts_come_in_bursts():
    """The counts of a bursty process in a second spread far more than those of independent arrivals."""
    times = islice(Bursty(10, 500, 10.0, 1.0).times(Random(1), lambda _: 1.0), 50_000)
    counts: dict[int, int] = {}
    for when in times:
        counts[int(when)] = counts.get(int(when), 0) + 1
    assert statistics.variance(counts.values()) > 10 * statistics.fmean(counts.values())


def test_a_trace_is_replayed():
    """Tasks arrive when they did, and no more."""
    trace = Trace([0.1, 0.1, 2.0])
    assert list(trace.times(Random(1), lambda _: 5.0)) == [0.1, 0.1, 2.0]
    assert trace.expected(1.0) == 2
