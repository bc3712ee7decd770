"""By how much a limit in money is exceeded: fewer seeds than `python -m benchmarks.efficacy.spend`."""

from __future__ import annotations

import statistics

import pytest


@pytest.fixture
def spend(efficacy):
    return efficacy("spend")


def test_the_most_is_never_exceeded(spend):
    """With `reserve="max"` a hundred callers at once spend no more than the limit, and nearly all of it."""
    for seed in (1, 2):
        spent = spend.run("max", seed)
        assert 0.9 < spent.share <= 1
        assert spent.at_risk == 0


def test_a_quantile_is_exceeded_by_little(spend):
    """With p95 it is a twentieth of the limit at most in the mean, and never more than the snapshot has stated."""
    spent = [spend.run("p95", seed) for seed in range(1, 6)]
    assert statistics.mean(max(one.share - 1, 0) for one in spent) <= 0.05
    assert all(one.share - 1 <= one.at_risk for one in spent)


@pytest.mark.parametrize("law", ["lognormal", "lognormal, wider", "growing", "two kinds, 1 of 33 long"])
def test_a_quantile_fits_lengths_that_it_was_not_made_for(spend, law):
    """Where one call of 33 is nine times as long, p95 was exceeded by a fifth of the limit: it is below them all."""
    spent = [spend.run("p95", seed, law=law) for seed in range(1, 4)]
    assert max(one.share - 1 for one in spent) <= 0.05
    assert min(one.share for one in spent) >= 0.97


@pytest.mark.parametrize("scope", ["host", "fleet"])
def test_several_processes_and_hosts_spend_one_amount(spend, scope):
    """Each of four processes spent the limit, and each of five hosts; now all do together, to the last call."""
    assert 0.9 < spend.run("max", 1, scope=scope).share <= 1
    assert 0.97 < spend.run("p95", 1, scope=scope).share <= 1.05


def test_counting_afterwards_is_exceeded_by_all_that_run(spend):
    """The rule of gateways: each call that is under way when the limit is reached comes on top."""
    assert spend.run("count afterwards", 1).share > 1.3
