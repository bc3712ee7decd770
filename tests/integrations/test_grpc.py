"""
The interceptors for grpc.aio, the files of `grpc_checks` in processes of their own.

grpcio has threads of its own that last as long as any channel or call: a fork in this process, of which other tests
have many, would not be safe, and is warned of.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "grpc_checks"
PATIENCE = 280
UNTRACED = " and not untraced" if os.environ.get("RESILIO_COVERAGE") == "1" else ""

if importlib.util.find_spec("grpc") is None:
    pytest.skip("grpcio is not installed", allow_module_level=True)


def check(*files: str, marks: str = "not slow and not soak") -> None:
    """Run files of checks in a process of their own."""
    options = ("-q", "-p", "no:cacheprovider", "-o", "python_files=check_*.py", "-m", marks + UNTRACED)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(CHECKS / file) for file in files)],
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


@pytest.mark.real(5.0)
def test_the_client_the_server_and_the_page() -> None:
    """What each kind of call means to a policy, what is admitted, and what the documentation shows."""
    check("check_client.py", "check_strategies.py", "check_server.py", "check_page.py")


@pytest.mark.untraced
@pytest.mark.real(2.5)
def test_a_small_storm_of_streams_leaves_no_permit_out() -> None:
    """Streams broken off, abandoned, cancelled, timed out and cut."""
    check("check_storm.py")


@pytest.mark.untraced
@pytest.mark.slow
def test_a_storm_of_streams_leaves_no_permit_out() -> None:
    """The same, with more of them."""
    check("check_storm.py", marks="slow")


@pytest.mark.untraced
@pytest.mark.soak
def test_twenty_thousand_streams_leave_no_permit_out() -> None:
    """The whole storm."""
    check("check_storm.py", marks="soak")
