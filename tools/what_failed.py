"""What failed in a run of pytest, also in one that ended without a report: a hang, a crash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

__all__ = ["PROGRESS", "Failed", "Progress", "what_failed"]

PROGRESS = "RESILIO_TEST_PROGRESS"
"""The variable with the path of the file in which `tests/conftest.py` notes each test as it begins and as it fails."""
_ENDED_BY = re.compile(r"(Timeout \(\d+:\d\d:\d\d\)!|Fatal Python error).*")  # after the dots of the tests so far
_OURS = ("/tests/", "/site-packages/resilio/")
_MOST = 5  # frames of one thread, and threads


@dataclass
class Failed:
    """The failed tests of a run, the test that ended it if none was left to report, and where its threads were then."""

    tests: list[str] = field(default_factory=list)
    ended_in: str = ""
    stacks: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What to print of it."""
        yield from self.tests
        if self.ended_in:
            yield f"{self.ended_in} (the run ended here)"
        yield from self.stacks


@dataclass
class Progress:
    """The tests that a run has begun and that failed, and whether it came to its end and wrote its report."""

    begun: list[str]
    failed: list[str]  # the one that the run hung in, or crashed in, is the last
    is_reported: bool

    @classmethod
    def read(cls, path: Path, *, is_reported: bool) -> Progress:
        """Read the file of PROGRESS."""
        noted = [line.partition(" ") for line in _read(path)]
        begun = [test for what, _, test in noted if what == "begun"]
        failed = [test for what, _, test in noted if what == "failed"]
        if not is_reported:
            failed += begun[-1:]
        return cls(begun, list(dict.fromkeys(failed)), is_reported)

    @property
    def done(self) -> list[str]:
        """The tests that passed or were skipped."""
        failed = set(self.failed)
        return [test for test in self.begun if test not in failed]


def what_failed(progress: Progress, log: Path) -> Failed:
    """Return what failed in a run; *log*: what pytest printed."""
    if progress.is_reported:
        return Failed(progress.failed)
    *tests, ended_in = progress.failed or ["before the first test"]
    return Failed(tests, ended_in, list(_stacks(_read(log))))


def _read(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _stacks(log: list[str]) -> Iterator[str]:
    """Return of each thread in our code where it waited, and our frames: the innermost first, as in the dump."""
    begins = [(number, found[0]) for number, line in enumerate(log) if (found := _ENDED_BY.search(line))]
    if not begins:
        return
    dump = log[begins[-1][0] :]
    yield begins[-1][1]
    heads = [number for number, line in enumerate(dump) if "most recent call first" in line]
    threads = [dump[head:end] for head, end in pairwise([*heads, len(dump)])]
    ours = [thread for thread in threads if any(map(_is_ours, thread))]
    for head, innermost, *frames in ours[-_MOST:]:  # the main thread is the last
        yield from (head, innermost, *list(filter(_is_ours, frames))[:_MOST])


def _is_ours(frame: str) -> bool:
    return frame.startswith("  File ") and any(part in frame for part in _OURS)
