"""What callers of a pool see of servers in trouble: fewer runs than `benchmarks.efficacy.pools`."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def runs(efficacy):
    """The service of twelve endpoints, and its faults."""
    return efficacy("_pool_runs")


@pytest.fixture(scope="module")
def regions(efficacy):
    """The two regions."""
    return efficacy("_pool_regions")


@pytest.mark.parametrize("fault", ["10 x slow", "fails at once", "half fails", "hangs"])
def test_one_endpoint_in_trouble_is_not_seen(runs, fault):
    """With one retry next to nothing fails, the tail is that of no fault, and the endpoint comes back."""
    pool = runs.WAYS["pool"]
    usual = runs.fault_run(None, pool, 1, attempts=2)
    found = runs.fault_run(runs.FAULTS[fault], pool, 1, attempts=2)
    assert found.failed <= 0.0001
    assert found.p99 <= 1.1 * usual.p99
    assert found.back <= 6.5


def test_a_third_that_fails_is_found_out_within_a_second(runs):
    """The clients know it after a second, and probe the third as one."""
    third, pool = runs.FAULTS["a third fails"], runs.WAYS["pool"]
    assert runs.fault_run(third, pool, 1).failed <= 0.006
    assert runs.fault_run(third, pool, 1, attempts=2).failed <= 0.0002
    assert runs.fault_run(third, runs.WAYS["peak EWMA (Finagle)"], 1).failed > 0.5


def test_slower_endpoints_get_fewer_calls(runs):
    """Half of the endpoints are half as fast: calls in turn are more than these can do."""
    found = runs.halves(runs.WAYS["pool"], 1, load=0.8)
    assert found.failed == 0
    assert found.p99 <= 0.085
    assert runs.halves(runs.WAYS["round robin"], 1, load=0.8).failed > 0.1


def test_a_region_that_is_lost_costs_critical_calls_nothing(regions, runs):
    """The other region sheds the rest, serves what it can, and nothing is left of it when the first one is back."""
    found = regions.regions(runs.WAYS["pool"], 1)
    assert found.critical >= 0.999
    assert found.goodput >= 0.97
    assert found.after >= 0.999
