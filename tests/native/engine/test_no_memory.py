"""Memory that runs out at any allocation: a MemoryError for the caller, and nothing is held afterwards."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import resilio

SCRIPT = Path(__file__).with_name("out_of_memory.py")
CASES = (
    "async_calls",
    "costs",
    "gates",
    "listeners",
    "origins",
    "permits",
    "rejections",
    "settings",
    "strategies",
    "sync_calls",
    "timers",
    "waits",
)

HAS_HOOKS = importlib.util.find_spec("_testcapi") is not None

pytestmark = [
    pytest.mark.skipif(not HAS_HOOKS, reason="this Python has no _testcapi, which makes allocations fail"),
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="without memory, making a function crashes it"),
]


@pytest.mark.parametrize("case", CASES)
def test_memory_that_runs_out_at_any_allocation_loses_no_permit(case: str) -> None:
    """In a process of its own, with one allocation after another failing: it survives, and every policy is at rest."""
    root = str(Path(resilio.__file__).parents[1])
    unwanted = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")  # a tracer that has no memory stops tracing
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment["PYTHONMALLOC"] = "debug"  # a write beyond a block ends the process
    environment["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-X", "faulthandler", str(SCRIPT), case]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"exit code {done.returncode}\n{done.stderr}"
    assert done.stdout.startswith(f"{case}: ")
