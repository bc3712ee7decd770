"""
Retries with a budget against independent failures: fewer clients than `python -m benchmarks.efficacy.retry_load`.

Runs are seeded, so a figure changes only with the library.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def load(efficacy):
    """The simulation."""
    return efficacy("retry_load")


def test_few_failures_are_retried_away(load):
    """5 % of attempts fail: 99.9 % of calls end well, here after the hundredth of a client, for 5 % of load."""
    _, later = load.offer(load.budgeted, 100, 0.05)
    assert later.success >= 0.999
    assert later.load == pytest.approx(load.analytic(0.05)[1], abs=0.005)


def test_many_failures_add_little_load(load):
    """Half of the attempts fail: the load is 1.06 after the start, and 1.1 over a client's first hundred calls."""
    first, later = load.offer(load.budgeted, 100, 0.5)
    assert first.load <= 1.1
    assert later.load <= 1.06
    assert later.success == pytest.approx(load.analytic(0.5)[0], abs=0.01)
