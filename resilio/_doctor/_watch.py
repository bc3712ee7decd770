"""Watches the process of the self-test from outside: what crashes or never ends is a result too."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

import attrs

from resilio._doctor._selftest import named

__all__ = ["PATIENCE", "Verdict", "verdicts"]

PATIENCE = 20.0
"""Seconds without an answer after which a check counts as one that never ends. On an idle machine it takes 0.05."""

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from resilio._doctor._selftest import run
run([tuple(one) for one in json.loads(sys.argv[2])])
"""


@attrs.frozen
class Verdict:
    """How one check went in one way; `problem` is empty where the protection works."""

    check: str
    way: str
    problem: str


def verdicts(patience: float = PATIENCE, checks: Sequence[tuple[str, str]] | None = None) -> Iterator[Verdict]:
    """
    Run checks; one that hangs or crashes ends its process, and another goes on behind it.

    Args:
        patience: Seconds that a check may take before it counts as one that never ends.

        checks: Which, each a check and a way; None: all that can run here.
    """
    left = named() if checks is None else list(checks)
    while left:
        for verdict in _of_one_process(left, patience):
            left = left[1:]
            yield verdict


def _of_one_process(checks: list[tuple[str, str]], patience: float) -> Iterator[Verdict]:
    """Yield the verdicts of one process, at least one: the last is about what it hung or crashed in, if it did."""
    with tempfile.TemporaryFile("w+", errors="replace") as said, _started(checks, said) as child:
        answers = _problems(child.stdout)
        try:
            for check, way in checks:
                try:
                    problem, goes_on = answers.get(timeout=patience), True
                except queue.Empty:
                    problem, goes_on = f"it never ended: it was still waiting after {patience:g} s", False
                if problem is None:
                    problem, goes_on = _end_of(child, said), False
                yield Verdict(check, way, problem)
                if not goes_on:
                    break
        finally:
            child.kill()


def _started(checks: list[tuple[str, str]], errors: IO[str]) -> subprocess.Popen[str]:
    """Start the process; it imports from the same places in the same order as this one."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), json.dumps(checks)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    return subprocess.Popen(command, text=True, **streams)  # noqa: S603 - this Python


def _problems(stream: IO[str] | None) -> queue.SimpleQueue[str | None]:
    """Return a queue of what each check answers, with None when the process ends, filled by a thread."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream or ():
            if line.startswith('{"problem": '):  # and not a word of something that prints when it is imported
                answers.put(json.loads(line)["problem"])
        answers.put(None)

    threading.Thread(target=read, daemon=True).start()
    return answers


def _end_of(child: subprocess.Popen[str], errors: IO[str]) -> str:
    """Return how the process ended by itself, and its last words."""
    code = child.wait()
    errors.seek(0)
    words = errors.read().strip().splitlines()
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {ended}{': ' + words[-1] if words else ''}"
