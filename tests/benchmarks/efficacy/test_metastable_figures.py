"""Metastable failure with a load shedder: fewer runs than `python -m benchmarks.efficacy.metastable`."""

from __future__ import annotations

import math

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def metastable(efficacy):
    """The simulation."""
    return efficacy("metastable")


@pytest.fixture(scope="module")
def tasks(efficacy):
    """That of tasks and priorities."""
    return efficacy("tasks")


def test_naive_clients_keep_a_server_down_that_sheds_nothing(metastable):
    """The failure is there."""
    run = metastable.hotos(metastable.stack("naive", False, 1.0, 2), 1, 9.0, 1, watched=15.0, warm=10.0)
    assert math.isinf(run.recovery)
    assert run.amplification > 1.5


@pytest.mark.parametrize(("clients", "worst"), [("no retries", 1.0), ("resilio", 3.0)])
def test_a_server_that_sheds_is_well_at_once(metastable, clients, worst):
    """It knows neither the number of its workers nor how long callers wait."""
    tried = metastable.stack(clients, True, 1.0, 2)
    runs = [metastable.hotos(tried, 1, length, seed, watched=10.0) for seed, length in enumerate((9.3, 11.6), 1)]
    assert max(run.recovery for run in runs) <= worst
    assert min(run.before for run in runs) > 0.97


def test_a_server_that_sheds_survives_a_trigger_of_a_minute(metastable):
    """A fifth of its speed, three quarters of its load, clients who would resend: it recovers."""
    bare = metastable.osdi(metastable.stack("naive", False, 3.0, 4), 0.75, 0.2, 10.0, 1, watched=10.0)
    assert math.isinf(bare.recovery)
    shed = metastable.osdi(metastable.stack("resilio", True, 3.0, 4), 0.75, 0.2, 60.0, 1, watched=10.0)
    assert shed.recovery <= 5.0
    assert shed.before >= 0.99


@pytest.mark.parametrize(("k", "rate"), [(2, 1500.0), (4, 2250.0)])
def test_whole_tasks_are_served_or_rejected(tasks, k, rate):
    """At least 95 % of what is possible, and at least .96 of the begun tasks are done; a server knows its workers."""
    most = tasks.SATURATED / (k * rate)
    fates = tasks.run("load_shed(max_concurrent=10, task=)", k, rate, seconds=5.0, warm=4.0)
    assert fates.good >= 0.95 * most
    assert fates.consistent >= 0.96
    assert tasks.run("random", k, rate, seconds=5.0, warm=2.0).good < 0.6 * most


def test_the_formula_of_random_shedding_is_the_published_one(tasks):
    """The table of the study: .134 and .013 at 1,500 tasks/s of two and four calls."""
    assert tasks.drop_for(2, 1500.0)[1] == pytest.approx(0.134, abs=0.001)
    assert tasks.drop_for(4, 1500.0)[1] == pytest.approx(0.013, abs=0.001)
    assert tasks.drop_for(1, 500.0) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("way", ["DAGOR", "CoDel", "bounded queue 15"])
def test_other_disciplines_serve_single_calls_well(tasks, way):
    """What they lose, they lose by tearing tasks apart."""
    assert tasks.run(way, 1, 1500.0, seconds=5.0, warm=10.0).good > 0.35


def test_critical_calls_are_served_in_a_spike_of_others(tasks):
    """Twelve times as many background calls: 99.4 % of the critical ones all the same."""
    critical, background = tasks.spike("load_shed()", 0.3, seconds=5.0)
    assert critical >= 0.994
    assert background < 0.3
