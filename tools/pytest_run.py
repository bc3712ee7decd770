"""
One run of pytest in a leg, shown as it goes, and a second one of what failed in it.

A suite has thousands of tests: chances of one in a hundred thousand would fail one run in ten. So a few tests that
failed are run once more, alone. If they pass now the leg passes, and the summary names them: they are unsteady, and to
be mended. Storms, interleavings and sanitizers are not run again: a race that was found once is there. Nor is anything
after a crash.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree as ET

__all__ = ["MOST_AGAIN", "NO_TESTS", "Run", "run_again", "run_pytest"]

MOST_AGAIN = 3
"""Tests of a leg that may fail and run again: more of them are no chance."""
NEVER_AGAIN = ("tests/storm/", "tests/sharing/interleave/", "tests/sharing/test_sanitized")
FAILED, NO_TESTS = 1, 5  # pytest's exit codes
_CRASH = b"Fatal Python error"


@dataclass
class Run:
    """What a run of pytest came to: its exit code, counts, processor time, and the tests that failed."""

    code: int
    counts: dict[str, int]
    cpu_seconds: float
    failed: list[str]
    has_crashed: bool = False
    unsteady: list[str] = field(default_factory=list)
    """Tests that passed when they were run again."""

    @property
    def may_run_again(self) -> bool:
        """True if what failed is little, and may be chance: no crash, and no race that was looked for."""
        return (
            self.code == FAILED
            and not self.has_crashed
            and 0 < len(self.failed) <= MOST_AGAIN
            and not any(test.startswith(NEVER_AGAIN) for test in self.failed)
        )


def run_pytest(command: list[str | Path], tree: Path, settings: dict[str, str], name: str = "pytest") -> Run:
    """
    Run pytest in a tree of tests, and print what it prints.

    Args:
        command: The interpreter, its runner and the arguments for pytest.

        tree: The folder to run it in.

        settings: All environment variables.

        name: Of its log and its report, in the tree.
    """
    report, log = tree / f"{name}.xml", tree / f"{name}.log"
    child = subprocess.Popen(
        [*command, f"--junitxml={report}"],
        cwd=tree,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with log.open("wb") as kept, child.stdout as printed:
        for part in iter(printed.read1, b""):
            kept.write(part)
            print(part.decode(errors="replace"), end="", flush=True)
    _, status, usage = os.wait4(child.pid, 0)
    code = child.returncode = os.waitstatus_to_exitcode(status)
    counts = _counts(report) if report.exists() else {}
    return Run(code, counts, usage.ru_utime + usage.ru_stime, _failed(tree), _CRASH in log.read_bytes())


def run_again(first: Run, command: list[str | Path], tree: Path, settings: dict[str, str]) -> Run:
    """Run what failed once more, one after the other; return what both came to."""
    print("\n=== what failed, once more", flush=True)
    second = run_pytest(
        [*command, "--last-failed", "--last-failed-no-failures=none", "--numprocesses=0"], tree, settings, "again"
    )
    counts = {**first.counts, "failed": second.counts.get("failed", 0)}
    counts["passed"] += first.counts["failed"] - counts["failed"]
    unsteady = [test for test in first.failed if test not in second.failed]
    return replace(second, counts=counts, cpu_seconds=first.cpu_seconds + second.cpu_seconds, unsteady=unsteady)


def _failed(tree: Path) -> list[str]:
    """Return the tests that pytest noted as failed, for its own second run."""
    noted = tree / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return list(json.loads(noted.read_text())) if noted.exists() else []


def _counts(report: Path) -> dict[str, int]:
    suites = ET.parse(report).getroot().iter("testsuite")
    total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for key in total:
            total[key] += int(suite.get(key, 0))
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}
