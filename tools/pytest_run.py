"""
One run of pytest in a leg, and the second one of what failed in it.

A whole suite is some 70,000 tests, all at once on a few cores: chances of one in a hundred thousand would fail every
second one. So a few tests that failed, or the one that hung, are run once more. If they pass now the leg passes, and
the summary names them: they are unsteady, and to be mended. Storms, interleavings and sanitizers are not run again: a
race that was found once is there. Nor is anything after a crash.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from what_failed import PROGRESS, Failed, Progress, what_failed

__all__ = ["MOST_AGAIN", "NO_TESTS", "Run", "run_again", "run_pytest"]

DONE = "RESILIO_TEST_DONE"
"""The variable with the path of the file that names what a second run leaves out, for `tests/conftest.py`."""
MOST_AGAIN = 3
"""Tests of a leg that may fail, or hang, and run again: more of them are no chance."""
NEVER_AGAIN = ("tests/storm/", "tests/sharing/interleave/", "tests/sharing/test_sanitized")
FAILED, NO_TESTS = 1, 5  # pytest's exit codes; a test that hangs ends the run with the first, too


@dataclass
class Run:
    """What a run of pytest came to: its exit code, counts, processor time, and the tests that failed."""

    code: int
    counts: dict[str, int]
    cpu_seconds: float
    failed: Failed
    progress: Progress
    unsteady: list[str] = field(default_factory=list)
    """Tests that passed when they were run again."""

    @property
    def may_run_again(self) -> bool:
        """True if what failed, or hung, is little, and may be chance: no crash, and no race that was looked for."""
        failed = self.progress.failed
        return (
            self.code == FAILED
            and 0 < len(failed) <= MOST_AGAIN
            and not any(test.startswith(NEVER_AGAIN) for test in failed)
        )


def run_pytest(command: list[str | Path], tree: Path, settings: dict[str, str], name: str = "pytest") -> Run:
    """
    Run pytest in a tree of tests.

    Args:
        command: The interpreter, its runner and the arguments for pytest.

        tree: The folder to run it in.

        settings: All environment variables.

        name: Of its log and its other files, in the tree.
    """
    report, noted, printed = (tree / f"{name}{ending}" for ending in (".xml", "-progress.txt", ".log"))
    with printed.open("wb") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        environment = {**settings, PROGRESS: str(noted)}
        child = subprocess.Popen([*command, f"--junitxml={report}"], cwd=tree, env=environment, **streams)
        _, status, usage = os.wait4(child.pid, 0)
    code = child.returncode = os.waitstatus_to_exitcode(status)
    is_reported = report.exists()
    progress = Progress.read(noted, is_reported=is_reported)
    counts = _counts(report) if is_reported else {}
    return Run(code, counts, usage.ru_utime + usage.ru_stime, what_failed(progress, printed), progress)


def run_again(first: Run, command: list[str | Path], tree: Path, settings: dict[str, str]) -> Run:
    """Run what failed once more, and what a run that hung did not come to; return what both came to."""
    done = tree / "done.txt"
    done.write_text("\n".join(first.progress.done))
    second = run_pytest(command, tree, {**settings, DONE: str(done)}, "again")
    counts = dict(second.counts)
    if counts:
        counts["passed"] += first.counts.get("passed", len(first.progress.done))
        counts["skipped"] += first.counts.get("skipped", 0)
    unsteady = [] if second.code else first.progress.failed
    return replace(second, counts=counts, cpu_seconds=first.cpu_seconds + second.cpu_seconds, unsteady=unsteady)


def _counts(report: Path) -> dict[str, int]:
    suites = ET.parse(report).getroot().iter("testsuite")
    total = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for key in total:
            total[key] += int(suite.get(key, 0))
    failed = total["failures"] + total["errors"]
    return {"passed": total["tests"] - failed - total["skipped"], "failed": failed, "skipped": total["skipped"]}
