"""
Tied requests (R3) and exact redundancy (R4), with fewer calls than `benchmarks.efficacy.tied` and `.redundancy`.

Runs are seeded, so a figure changes only with the library.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def tied(efficacy):
    """The simulation of R3."""
    return efficacy("tied")


@pytest.fixture(scope="module")
def redundancy(efficacy):
    """The simulation of R4."""
    return efficacy("redundancy")


def test_three_parameters_give_the_published_cells_of_tied_reads(tied):
    """All eight within 10 %, and of reads alone all but the 99.9th percentile where the replicas sort as well."""
    for reads in tied.READS:
        for copies in (False, True):
            for q, published in zip(tied.QUANTILES, tied.PUBLISHED[reads.name, copies], strict=True):
                off = 0.13 if (reads.name, copies, q) == ("with terasort", False, 0.999) else 0.10
                assert reads.exact(q, copies=copies) == pytest.approx(published, rel=off)


def test_hedges_after_a_millisecond_are_as_good_as_exact(tied):
    """The library's copies, of 8,000 reads: 2 % at the median, 3 % at p90, 8 % at p99."""
    for reads in tied.READS:
        seen = tied.quantiles(tied.tied(reads, 8_000))
        for q, figure, off in zip(tied.QUANTILES[:3], seen, (0.02, 0.03, 0.08), strict=False):
            assert figure == pytest.approx(reads.exact(q, copies=True), rel=off)


@pytest.mark.parametrize("how", ["random", "tied", "first completes"])
def test_redundancy_takes_the_time_that_theory_says(redundancy, how):
    """At a load of 0.3 and 0.7; within four standard errors, and these are small."""
    for load in (0.3, 0.7):
        mean, error, begun = redundancy.always(how, load, 30_000)
        assert mean == pytest.approx(redundancy.exact_mean(how, load), abs=4 * error)
        assert error / mean < 0.03
        assert begun == pytest.approx(2 if how == "first completes" else 1, abs=0.01)


def test_tied_requests_begin_nothing_twice(redundancy):
    """Without a delay between servers no call is worked on by both."""
    assert redundancy.always("tied", 0.7, 5_000)[2] <= 1


def test_copies_that_nothing_stops_take_the_gain_back(redundancy):
    """At a load of 0.3, of twenty servers: 1.25, and somewhat more because two copies meet in few servers."""
    mean, error, begun = redundancy.always("nothing stopped", 0.3, 30_000, size=20)
    assert mean == pytest.approx(1.25, rel=0.05, abs=4 * error)
    assert begun == pytest.approx(2, abs=0.01)


def test_hedge_takes_most_of_the_gain_where_losers_are_stopped(redundancy):
    """Its own rules keep it from sending every copy, so it is not exact; here it is within 15 % of what is."""
    for load in (0.3, 0.5):
        mean, _ = redundancy.hedged("first completes", load, 6_000)
        assert mean <= 1.15 * redundancy.exact_mean("first completes", load)
        assert mean < redundancy.exact_mean("random", load)
