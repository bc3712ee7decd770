"""The benchmark of the simulator."""

from __future__ import annotations

from benchmarks.micro._simulation import ns_a_call, simulation_table
from benchmarks.micro._targets import TARGETS
from resilio.simulation import Stack


def test_the_table_has_a_call_with_three_gates_and_a_bare_one():
    """The figure that has a target stands first, with calls a second beside it."""
    table = simulation_table(500, 3)
    guarded, bare = table.rows
    assert (guarded.unit, guarded.target, bare.target) == ("ns", "simulation", None)
    assert guarded.low <= guarded.value <= guarded.high
    assert guarded.note.endswith(" calls/s")
    assert TARGETS["simulation"].must == 10_000
    (once, _) = simulation_table(500, 1).rows
    assert once.low == once.value == once.high


def test_a_call_takes_some_time():
    """The time is this thread's, for each call of the simulation."""
    assert 100 < ns_a_call(Stack(), 500) < 1e7
