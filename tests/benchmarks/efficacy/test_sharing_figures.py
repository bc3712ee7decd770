"""What processes of one host gain by sharing: fewer runs than `benchmarks.efficacy.sharing` and `.shared_learner`."""

from __future__ import annotations

import attrs
import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def sharing(efficacy):
    """The scenarios that come with the simulator."""
    return efficacy("sharing")


@pytest.fixture(scope="module")
def learner(efficacy):
    """The learner that lags."""
    return efficacy("shared_learner")


def test_limits_of_eight_processes_do_not_add_up(sharing):
    """Each process takes what another one gives up; one limit for the host serves the server's capacity in time."""
    rows = {row[0]: row[1:] for row in sharing.limit(seeds=(1,))}
    for none, each, one in rows.values():
        assert none == "0 %"
        assert float(each.partition("%")[0]) < 95.0
        assert float(one.partition("%")[0]) >= 97.0
        assert int(one.partition("(")[2].partition(" ")[0]) <= 60


def test_a_breaker_for_each_host_sees_an_outage_that_a_process_does_not(sharing):
    """An eighth of the calls is needed, and clients that are not in the way of the recovery."""
    each, host, budget = sharing.breaker(seeds=(1,))
    assert int(each[1].replace(",", "")) > 2500
    assert int(host[1].replace(",", "")) <= 900
    assert int(budget[1].replace(",", "")) <= 850
    assert float(budget[2].split()[0]) <= 5.0


def test_a_long_outage_gets_probes_of_hosts(sharing):
    """Two hundred breakers send 55 probes a second for ever; 25 hosts send eight, and notice within seconds."""
    each, host = sharing.outage(seeds=(1,))
    assert each[3] == "never"
    assert int(host[1].replace(",", "")) <= 2500
    assert float(host[2]) <= 9.0
    assert float(host[3].split()[0]) <= 3.5


def test_permits_of_killed_workers_are_not_lost(sharing):
    """Eight deaths with permits in hand: as many calls are answered as without them, but those of the dead."""
    rows = {row[0]: float(row[1].rstrip("%")) for row in sharing.killed(seeds=(1,))}
    assert rows["20 for the host"] > rows["20 for the host, no deaths"] - 2.0
    assert rows["20 for the host"] > rows["three for each process"] + 10.0


@pytest.mark.parametrize("load", [1.2, 3.0])
def test_a_learner_may_lag(learner, load):
    """Samples that are read every 10 ms, or even every 100, teach the law as well as those that come at once."""
    trial = attrs.evolve(learner.Trial(seconds=10.0, warmup=5.0), load=load)
    own, _ = learner.measured(attrs.evolve(trial, how="own"), 1)
    for lag in (learner.Lag(), learner.Lag(0.1, None), learner.Lag(stamped=True)):
        share, tail = learner.measured(attrs.evolve(trial, how=lag), 1)
        assert share >= 0.97
        assert tail <= 0.65
        assert share > own + 0.02


def test_a_ring_that_overflows_loses_samples_and_nothing_else(learner):
    """A reading of 640 samples from rings of 512: the law learns from those that are there."""
    trial = learner.Trial(2.0, learner.Lag(0.01, None), server=64, mean=0.001, seconds=0.3, warmup=0.5)
    share, _ = learner.measured(trial, 1)
    assert share >= 0.97
