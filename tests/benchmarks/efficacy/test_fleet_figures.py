"""What hosts gain by sharing through a store: fewer runs than `benchmarks.efficacy.fleet`."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # figures of virtual time: the same on every Python

BURST = 1000


@pytest.fixture(scope="module")
def fleet(efficacy):
    """The loads, the limits and the faults."""
    return efficacy("fleet")


def number(cell: str) -> float:
    return float(cell.strip("%").replace(",", ""))


def test_leases_use_a_limit_and_do_not_overdraw_it(fleet):
    """What is leased counts as inside of the burst; counting here and telling others later overdraws it."""
    loads = {name: fleet.LOADS[name] for name in ("one has 80 %, 0.95 x", "half of them in turn, 1.8 x")}
    used, overdrawn = {}, {}
    for load, what, share, overdraft, _, trips in fleet.leases(loads):
        used[load, what], overdrawn[load, what] = number(share), number(overdraft)
        if what.startswith("leases"):
            assert number(trips) <= (250 if "0.25" in what else 600)
    assert min(share for (_, what), share in used.items() if what == "leases, 0.1 s") >= 98.0
    assert min(share for (_, what), share in used.items() if what == "leases, 0.25 s") >= 97.5
    assert max(tokens for (_, what), tokens in overdrawn.items() if what.startswith("leases")) <= BURST / 4
    assert overdrawn["half of them in turn, 1.8 x", "count, sync 1 s"] > BURST
    assert used["one has 80 %, 0.95 x", "rate / N each"] < 25.0


def test_a_fleet_whose_calls_hang_stops_soon_after_the_first_timeouts(fleet):
    """All calls of the first second are lost; some 35 more were, though 100 hung when the first one failed."""
    ((_, total, _, after, recovery, _),) = fleet.hangs(seeds=(1, 2))
    assert int(total.partition("(")[2].rstrip(")")) <= 320
    assert float(after.split()[0]) <= 28
    assert float(recovery.split()[0]) <= 3.5


def test_what_the_store_loses_is_not_admitted_twice(fleet):
    """Keys that are lost, a replica that is behind, a clock that steps: the ideal bucket is not short of a token."""
    rows = {row[0]: row[1:] for row in fleet.trouble()}
    for title in ("all keys lost", "clock 5 s ahead for 5 s", "clock 5 s behind for 5 s", "no answer for 5 s"):
        assert number(rows[title][1]) <= BURST / 4
    assert number(rows["failover, the replica 0.1 s behind"][1]) <= 100 + BURST
    assert number(rows["two masters for 5 s"][1]) <= 5000
