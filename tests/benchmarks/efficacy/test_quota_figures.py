"""
Thresholds of retry quotas (R7): fewer calls than `python -m benchmarks.efficacy.quota`, the same figures.

Runs are seeded, so a figure changes only with the library. Must: within 0.005 of the exact threshold; where 20,000
calls leave more to chance than that, two standard errors.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

CALLS = 20_000


@pytest.fixture(scope="module")
def quota(efficacy):
    """The simulation."""
    return efficacy("quota")


@pytest.mark.parametrize(("cost", "published"), [(5, 0.3207), (10, 0.2460), (14, 0.2149)])
def test_the_published_quota_drains_where_its_formula_says(quota, cost, published):
    """1 - p = c p^2 (1 + p): the formula, and the rule followed call by call."""
    assert quota.root(lambda p: 1 - p - cost * p * p * (1 + p)) == pytest.approx(published, abs=1e-4)
    assert quota.threshold(quota.aws(cost), CALLS) == pytest.approx(published, abs=0.007)


@pytest.mark.untraced  # a hundred thousand calls, which others trace in small
@pytest.mark.parametrize("ratio", [0.1, 0.2])
@pytest.mark.parametrize("attempts", [3, None])
def test_our_budget_drains_where_its_law_says(quota, ratio, attempts):
    """Calls that succeed have what they took threefold, below 44 failures in 100; that share is an estimate."""
    exact = quota.law_of_ours(ratio, attempts)
    assert quota.threshold(quota.ours(ratio, attempts), CALLS) == pytest.approx(exact, abs=0.015)


def test_grpcs_rule_drains_where_its_formula_says(quota):
    """Until a call succeeds: ratio / (1 + ratio)."""
    assert quota.threshold(quota.grpc(0.1), CALLS) == pytest.approx(1 / 11, abs=0.005)


def test_finagles_budget_pays_a_fifth_whatever_fails(quota):
    """Three attempts run it dry at p + p^2 = 0.2."""
    assert quota.threshold(quota.finagle(0.2), CALLS) == pytest.approx(0.1708, abs=0.005)


def test_the_table_has_a_row_for_each(quota):
    """Whatever is recorded is what is tested."""
    assert [row[0] for row in quota.table(200)][3] == "gRPC, tokenRatio 0.1"
