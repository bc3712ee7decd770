"""
Outage and recovery (R13): fewer seeds than `python -m benchmarks.efficacy.outage`, the same figures.

Runs are seeded, so a figure changes only with the library.
"""

from __future__ import annotations

import statistics

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def outage(efficacy):
    """The simulation."""
    return efficacy("outage")


@pytest.fixture(params=["circuit_breaker()", "the same, probabilistic"])
def ours(request, outage):
    """What makes a breaker, in each of its modes."""
    return outage.OURS[request.param]


@pytest.mark.parametrize("latency", [0.001, 0.1, 1.0])
def test_few_calls_go_into_an_outage_and_it_is_over_soon(outage, ours, latency):
    """At most 100 calls and those of a failure's time, on average; back within 3 s and a failure's time, always."""
    sent, recovery = zip(*[outage.outage(ours, latency, seed) for seed in range(1, 9)], strict=True)
    assert statistics.mean(sent) <= 100 + outage.RATE * latency
    assert max(recovery) <= 3 + latency


def test_the_probabilistic_mode_sees_a_hang_before_its_timeouts_end(outage):
    """Failures of 5 s: the calls of about two seconds instead of those of five go the same way."""
    window, throttle = (
        statistics.mean(outage.outage(make, 5.0, seed)[0] for seed in (1, 2, 3)) for make in outage.OURS.values()
    )
    assert window > 500
    assert throttle < 300


def test_a_ramp_as_long_as_the_warm_up_opens_no_second_time(outage):
    """Both modes; and without one they do."""
    for mode in ("window", "probabilistic"):
        assert [outage.cold(outage.ours(mode, ramp=30.0), seed)[0] for seed in (1, 2)] == [0, 0]
        assert outage.cold(outage.ours(mode), 1)[0] > 0
        assert outage.cold(outage.ours(mode, ramp=30.0), 1)[1] > 0.65


@pytest.mark.parametrize("mode", ["window", "probabilistic"])
def test_a_dead_shard_costs_its_own_calls_only(outage, mode):
    """With a breaker for each shard 89.9 % are served, and hardly any call goes to the dead one."""
    served, dead = zip(*[outage.shards(mode, seed) for seed in (1, 2, 3)], strict=True)
    assert statistics.mean(served) >= 0.897  # 90 % are not to the dead shard, give or take 0.1 % in so few runs
    assert statistics.mean(dead) <= 0.005


def test_a_partial_failure_passes_mostly(outage):
    """At half the shards lost the defaults reject none of the good half, a rate of a half and others nearly all."""
    rejected = {name: outage.partial(make, 0.5, 1, seconds=200.0)[0] for name, make in outage.GUARDS.items()}
    assert rejected["the same, probabilistic"] <= 0.015
    assert rejected["circuit_breaker()"] <= 0.005
    assert min(rejected[name] for name in ("Kratos", "go-zero", "classic", "the same, failure_rate=0.5")) > 0.75
    assert outage.partial(outage.ours("probabilistic"), 0.8, 1, seconds=200.0)[0] == pytest.approx(0.57, abs=0.05)


def test_of_an_overload_it_sends_the_root_of_twice_the_load(outage):
    """At four times the capacity 2.8 times the capacity, and all that can be served is served."""
    sent, served = outage.overload(outage.ours("probabilistic"), 4.0, 1, seconds=30.0)
    assert sent == pytest.approx(8**0.5, abs=0.15)
    assert served > 0.98


def test_published_designs_cost_what_is_published(outage):
    """Calls sent into 240 s: 9,061 and 278, 941 and 505, each of one seed."""
    published = {"client throttle, K=2": 9061, "Kratos": 278, "go-zero": 941, "classic": 505}
    for name, calls in published.items():
        sent = outage.outage(outage.GUARDS[name], 0.01, 1, before=130.0, longest=1.0)[0]
        assert sent == pytest.approx(calls, rel=0.1), name


def test_the_client_throttle_recovers_as_its_law_says(outage):
    """655 s by the growth of what its window holds, and the first calls that pass."""
    sent, recovery = outage.outage(outage.GUARDS["client throttle, K=2"], 0.01, 2, before=130.0, longest=2000.0)
    assert sent > 8000
    assert recovery == pytest.approx(655, rel=0.25)
