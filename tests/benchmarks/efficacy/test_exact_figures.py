"""
Gates beside the formulas that they follow: fewer calls than `python -m benchmarks.efficacy.exact`.

Runs are seeded, so a figure changes only with the library. What 60,000 calls leave to chance is about 1 %.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def exact(efficacy):
    """The simulation."""
    return efficacy("exact")


def test_the_formulas_give_the_published_values(exact):
    """Erlang's B at eight loads, and three queues."""
    published = (0.1217, 0.2146, 0.4103, 0.0644, 0.3801, 0.3556, 0.0270, 0.3454)
    for (servers, load, _), blocked in zip(exact.LOSSES, published, strict=True):
        assert exact.erlang_b(servers, load) == pytest.approx(blocked, abs=6e-5)
    queues = ((0.3418, 0.987, 0.339), (0.3344, 0.998, 0.807), (0.3334, 1.0, 1.80))
    for places, figures in zip(exact.QUEUES, queues, strict=True):
        assert exact.mmck(10, places, 15) == pytest.approx(figures, abs=6e-4)


@pytest.mark.parametrize(("servers", "load"), [(10, 10), (20, 30), (100, 150)])
def test_a_bulkhead_without_a_queue_rejects_as_erlang_says(exact, servers, load):
    """Calls that find no permit go away: the formula that telephone exchanges are built by."""
    assert exact.loss(servers, load, 60_000) == pytest.approx(exact.erlang_b(servers, load), rel=0.025)


def test_a_bulkhead_with_a_queue_is_the_queue_of_theory(exact):
    """What it rejects, how busy it keeps the dependency, and how long calls wait."""
    rejected, utilisation, wait = exact.queue(10, 5, 15, 20_000)
    by_theory = exact.mmck(10, 5, 15)
    assert rejected == pytest.approx(by_theory[0], rel=0.04)
    assert utilisation == pytest.approx(by_theory[1], rel=0.01)
    assert wait == pytest.approx(by_theory[2], rel=0.04)


def test_a_rate_limit_decides_as_a_token_bucket_in_exact_fractions(exact):
    """GCRA and token bucket are the same rule: not one decision differs."""
    assert exact.differing(40, 250) == (0, 10_000)
