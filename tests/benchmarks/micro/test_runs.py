import json
import math
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from benchmarks import micro
from benchmarks.micro._comparison import Subject
from benchmarks.micro._harness import Effort
from benchmarks.micro._own import comparisons
from benchmarks.micro._queue import _SUBJECTS, _Turns, grant_ns
from benchmarks.micro._results import from_json
from benchmarks.micro._runner import Peers, measure_comparisons

EFFORT = Effort(rounds=2, sample_ns=20_000)
KEYS = [comparison.key for comparison in comparisons()]


def test_every_comparison_measures_every_own_subject():
    """
    Nothing that the library has is skipped, and every figure is a number (so few rounds cannot tell its sign).

    What it has not yet, and ratios to what is not there, are skipped by name.
    """
    results = measure_comparisons(EFFORT, Peers())
    assert [table.key for table in results.tables] == KEYS
    for table in results.tables:
        assert all(re.search(r"^this resilio has no |was not measured$", skip.reason) for skip in table.skips)
        assert all(math.isfinite(row.value) for row in table.rows)


def test_peers_stand_in_the_same_table_as_the_library():
    """What another library contributes to a comparison is measured beside the library's own subject."""

    def peers(key):
        return [Subject("peer", lambda: lambda: True, "none")] if key == "try_acquire" else []

    (table,) = measure_comparisons(EFFORT, Peers(subjects=peers), ["try_acquire"]).tables
    assert [row.subject for row in table.rows] == ["resilio TokenBucket.try_acquire", "peer"]


def test_the_command_measures_chosen_comparisons_and_prints_json():
    """`python -m benchmarks.micro --quick --json --only KEY` prints the records of that comparison."""
    with redirect_stdout(StringIO()) as out:
        assert micro.main(["--quick", "--json", "--only", "try_acquire"]) == 0
    results = from_json(json.loads(out.getvalue()))
    assert [table.key for table in results.tables] == ["try_acquire"]
    assert results.environment.clock in {"tsc", "monotonic"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("subject", _SUBJECTS)
async def test_a_grant_is_timed_with_a_queue_of_the_length_asked_for(subject, anyio_backend):
    """Turns are taken one after the other until the grants asked for are timed, and all tasks end."""
    assert await grant_ns(_SUBJECTS[subject], 20, 100) > 0


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("subject", _SUBJECTS)
async def test_a_queue_has_room_for_all_on_a_busy_machine(subject, anyio_backend, vt, monkeypatch):
    """The first call lasts until all have come: a shedder whose calls took that long had no room for ten thousand."""
    take = _Turns.take
    monkeypatch.setattr(_Turns, "take", lambda turns: (vt.advance(6.0), take(turns)))
    assert await grant_ns(_SUBJECTS[subject], 2_000, 2_000) > 0


LESS = """
import sys, attrs
from benchmarks import micro
from benchmarks.micro import _runner

_runner.QUICK = attrs.evolve(_runner.QUICK, processes=1, imports=1, queue_rounds=1, many=500)
sys.exit(micro.main(["--quick"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-c", LESS], id="less"),
        pytest.param(["-m", "benchmarks.micro", "--quick"], id="whole", marks=pytest.mark.soak),
    ],
)
def test_the_quick_run_measures_everything_and_ends_with_its_report(command):
    """`python -m benchmarks.micro --quick` has every part, and nothing of the library is skipped."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    skipped = [line for line in done.stdout.splitlines() if "SKIPPED" in line]
    assert [line for line in skipped if "uvicorn is not installed" not in line] == []
    for part in (
        "circuit breaker on success",
        "Histogram",
        "Memory",
        "Import",
        "Bulkhead with a queue",
        "for each key",
        "pending timeouts",
        "Live page",
    ):
        assert part in done.stdout
