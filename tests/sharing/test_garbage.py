"""Shared policies that are garbage while calls that they guard have not ended."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilio import RetryBudget, adaptive_limit, bulkhead, circuit_breaker, rate_limit
from resilio._native.shared import Cell, Region

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")

GATES: dict[str, Callable[[], Any]] = {
    "adaptive_limit()": lambda: adaptive_limit()._gate,
    "bulkhead(3)": lambda: bulkhead(3)._gate,
    "circuit_breaker()": lambda: circuit_breaker()._gate,
    "rate_limit('1000/s')": lambda: rate_limit("1000/s")._gate,
    "rate_limit('100/min')": lambda: rate_limit("100/min")._gate,
    "RetryBudget()": RetryBudget,
}


def share(gate: Any, region: Region) -> None:
    """Let the gate have a cell, which alone keeps the region then."""
    kind, stock, size = gate.cell_wanted()
    gate.share(region.cell(kind, "garbage", stock, size))


@pytest.mark.parametrize("kind", GATES)
def test_the_collector_does_not_see_the_cell_of_a_gate(kind: str) -> None:
    """
    It clears what it sees of a gate that is garbage, though a call may end later, in memory that is gone.

    The cell goes with the gate, and the region with its last cell.
    """
    gate, region = GATES[kind](), Region.private()
    share(gate, region)
    assert not [one for one in gc.get_referents(gate) if isinstance(one, Cell)]
    alive = weakref.ref(region)
    del region
    gc.collect()
    assert alive() is not None
    del gate
    gc.collect()  # the gate and its policy
    gc.collect()  # the region and its member
    assert alive() is None


DROPPED = """
import gc, sys, types
from resilio import adaptive_limit, bulkhead, circuit_breaker, rate_limit
from resilio._native import shared

@types.coroutine
def suspended():
    yield

for number in range(20):
    for held in ("call", "permit"):
        region = shared.Region.open(f"{sys.argv[1]}/{number}-{held}", 1 << 20)
        policy = eval(sys.argv[2])
        kind, stock, size = policy._gate.cell_wanted()
        policy._gate.share(region.cell(kind, "garbage", stock, size))

        @policy
        async def call():
            await suspended()

        if held == "call":
            last = call()
            last.send(None)
        else:
            last = policy.acquire()
        assert region.workers()
        shared._open.clear()  # a process keeps its regions; this one goes with its last cell
        cycle = [policy, last, region, call]
        cycle.append(cycle)
        del policy, last, region, call, cycle
        gc.collect()
print("done")
"""


@pytest.mark.once
@pytest.mark.parametrize("kind", [kind for kind in GATES if kind != "RetryBudget()"])
def test_a_call_that_is_garbage_with_its_policy_ends_in_the_host_s_memory(kind: str, tmp_path: Path) -> None:
    """The permits went back to memory that the process had given up, and it died. The region is in the same cycle."""
    command = [sys.executable, "-W", "ignore", "-c", DROPPED, str(tmp_path), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
