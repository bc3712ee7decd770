"""The examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.real(1.5)
@pytest.mark.parametrize("name", ["async_function", "sync_function", "httpx2_client"])
def test_example_shows_the_breaker_at_work(name: str, tmp_path: Path) -> None:
    """Well, broken and mended: few calls fail, the rest is rejected, and the first call after it is served."""
    if name == "httpx2_client":
        pytest.importorskip("httpx2")
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**unmeasured, "PYTHONPATH": path},  # a tracer that finds no sources in this folder says so on stderr
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    well, broken, mended = done.stdout.splitlines()
    assert well == "while it is well: sunny"
    assert mended == "once it is mended: sunny"
    failed, rejected = (int(number) for number in re.findall(r"\d+", broken))
    assert failed >= 10
    assert rejected >= 100
