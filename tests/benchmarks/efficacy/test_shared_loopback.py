"""The limit of eight real processes: what is made of its runs, and that the processes find each other."""

from __future__ import annotations

import asyncio
import sys

import pytest

from benchmarks.efficacy import shared_loopback
from benchmarks.efficacy.shared_loopback import HEADER, LOADS, PATIENCE, Trial, measured, table


def test_a_row_has_the_worst_of_its_runs():
    """The least share, and the longest p99; both kinds of limits are measured in turns."""
    seen = []

    def measure(trial, seed):
        seen.append((trial.load, trial.scope, seed))
        return (0.9 if trial.scope == "host" else 0.5) + seed / 100, seed / 10

    rows = list(table((1, 2), measure))
    assert [row[0] for row in rows] == [f"{load:g} x" for load in LOADS]
    assert rows[0] == ("1.2 x", f"51.0% ({200 * PATIENCE:.0f} ms)", f"91.0% ({200 * PATIENCE:.0f} ms)")
    assert len(rows[0]) == len(HEADER)
    assert seen[:4] == [(1.2, "process", 1), (1.2, "host", 1), (1.2, "process", 2), (1.2, "host", 2)]


def test_a_line_ends_however_the_other_process_has_ended():
    """A killed server resets the connection."""

    async def read() -> bytes:
        reader = asyncio.StreamReader()
        reader.set_exception(ConnectionResetError())
        return await shared_loopback._line(reader)

    assert asyncio.run(read()) == b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
def test_a_run_ends():
    """Nothing is said of its figures on a machine that has other work: all processes answer."""
    share, tail = measured(Trial(0.5, "host", warmup=5.0, seconds=1.0), 1)
    assert 0.0 <= share <= 2.0
    assert 0.0 <= tail <= 1.0
