"""
Metastable failure, reproduced: shorter outages and fewer runs than `python -m benchmarks.efficacy.storm`.

Runs are seeded, so a figure changes only with the library.
"""

from __future__ import annotations

import math
import statistics

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python


@pytest.fixture(scope="module")
def storm(efficacy):
    """The simulation."""
    return efficacy("storm")


@pytest.mark.parametrize("clients", [1, 200])
def test_without_retries_the_server_has_to_drain(storm, clients):
    """An outage of 2 s takes (560 - 280) / 20 = 14 s on average; here of 4 runs, within three standard errors."""
    runs = storm.recoveries(storm.no_retries, clients, [2.0] * 4, warm=5.0)
    assert statistics.mean(run.recovery for run in runs) == pytest.approx(14.0, abs=3 * 4.5 / math.sqrt(4))


def test_a_server_that_drops_expired_work_recovers_at_once(storm):
    """Without retries it has nothing to catch up with."""
    assert storm.storm(storm.no_retries, 1, 10.0, 1, drops_expired=True).recovery < 0.1


@pytest.mark.parametrize("drops_expired", [False, True])
def test_naive_retries_keep_the_server_down(storm, drops_expired):
    """Two retries send up to three times the load, and dropping what has expired does not help."""
    run = storm.storm(storm.naive, 1, 10.0, 1, drops_expired=drops_expired, watched=15.0)
    assert math.isinf(run.recovery)
    assert run.per_second > 2 * storm.LOAD


def test_the_breaker_alone_lets_the_server_recover(storm):
    """One client: its probes find the server well after at most a timeout and the longest open time."""
    runs = storm.recoveries(storm.breaker_alone, 1, storm.lengths(5), warm=5.0)
    assert max(run.recovery for run in runs) <= 4.2


def test_many_clients_with_breakers_let_the_server_recover(storm):
    """200 clients of 1.4 calls/s: each needs ten failures in a row, and ten times as soon as without breakers."""
    assert storm.storm(storm.breaker_alone, 200, 11.0, 1, warm=20.0).recovery <= 13.0


@pytest.mark.parametrize(("drops_expired", "worst"), [(False, 4.5), (True, 3.0)])
def test_one_client_with_the_whole_stack_finds_the_server_well_soon(storm, drops_expired, worst):
    """Retries within their budget change nothing about it: a probe's timeout and the open time before the next one."""
    runs = storm.recoveries(storm.whole_stack, 1, storm.lengths(5), drops_expired=drops_expired, warm=5.0)
    assert max(run.recovery for run in runs) <= worst
    assert max(run.per_second for run in runs) <= 1.1 * storm.LOAD


def test_many_clients_with_the_whole_stack_let_the_server_recover(storm):
    """200 clients: the budgets, full of what the healthy time paid in, do not keep the outage alive."""
    assert storm.storm(storm.whole_stack, 200, 11.0, 1, warm=20.0).recovery <= 15.0
    assert storm.storm(storm.whole_stack, 200, 11.0, 1, drops_expired=True, warm=20.0).recovery <= 2.0
