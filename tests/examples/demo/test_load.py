"""The offered load."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from examples.demo._load import poisson_arrivals

RATES = {"recommendations": 150.0, "checkout": 60.0}


def test_load_is_the_same_for_the_same_seed() -> None:
    """Bare and guarded run are offered the same; another seed offers something else."""
    assert poisson_arrivals(7, 5.0, RATES) == poisson_arrivals(7, 5.0, RATES)
    assert poisson_arrivals(7, 5.0, RATES) != poisson_arrivals(8, 5.0, RATES)


def test_load_is_ordered_bounded_and_unambiguous() -> None:
    """Arrivals are in the order of time, within the run, and no two have one identity."""
    arrivals = poisson_arrivals(7, 5.0, RATES)
    assert all(before.at <= after.at for before, after in pairwise(arrivals))
    assert all(0 < arrival.at < 5.0 for arrival in arrivals)
    assert len({arrival.request for arrival in arrivals}) == len(arrivals)


@pytest.mark.parametrize("dependency", RATES)
def test_load_is_poisson(dependency: str) -> None:
    """The gaps are exponential: mean and standard deviation are both one over the rate."""
    times = [arrival.at for arrival in poisson_arrivals(7, 100.0, RATES) if arrival.dependency == dependency]
    gaps = [after - before for before, after in pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(1 / RATES[dependency], rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / RATES[dependency], rel=0.05)


def test_load_of_one_dependency_does_not_move_with_the_other() -> None:
    """Each dependency's arrivals depend on its own rate alone."""
    both = [each.at for each in poisson_arrivals(7, 5.0, RATES) if each.dependency == "checkout"]
    assert both == [each.at for each in poisson_arrivals(7, 5.0, {"checkout": 60.0})]


def test_absurd_load_is_rejected() -> None:
    """A load above the limit is an error that names the rates, not a memory leak."""
    with pytest.raises(ValueError, match=r"rates=.*more than 100 arrivals"):
        poisson_arrivals(7, 5.0, RATES, limit=100)
