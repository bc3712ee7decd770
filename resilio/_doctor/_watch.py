"""Parent of the self-test's process: a crash, or a check that never ends, is a result too."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, Any

import attrs

from resilio._context.process_switch import SWITCH
from resilio._doctor._selftest import named

__all__ = ["PATIENCE", "Verdict", "verdicts"]

PATIENCE = 20.0
"""Seconds without a result after which a check counts as never ending. On an idle machine a check takes 0.05."""

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from resilio._doctor._selftest import run
run([tuple(one) for one in json.loads(sys.argv[2])])
"""


@attrs.frozen
class Verdict:
    """Result of one check in one environment; `problem` is empty if the protection works."""

    check: str
    way: str
    problem: str


def verdicts(patience: float = PATIENCE, checks: Sequence[tuple[str, str]] | None = None) -> Iterator[Verdict]:
    """
    Run checks; one that hangs or crashes ends its process, and a new process continues after it.

    Args:
        patience: Seconds that a check may take before it counts as never ending.

        checks: Pairs of a check and an environment; None: all that can run here.
    """
    left = named() if checks is None else list(checks)
    while left:
        for verdict in _of_one_process(left, patience):
            left = left[1:]
            yield verdict


def _of_one_process(checks: list[tuple[str, str]], patience: float) -> Iterator[Verdict]:
    """Yield the verdicts of one process, at least one; if it hung or crashed, the last verdict is about that."""
    with tempfile.TemporaryFile("w+", errors="replace") as output, _started(checks, output) as child:
        answers = _problems(child.stdout)
        try:
            for check, way in checks:
                try:
                    problem, goes_on = answers.get(timeout=patience), True
                except queue.Empty:
                    problem, goes_on = f"it never ended: it was still waiting after {patience:g} s", False
                if problem is None:
                    problem, goes_on = _end_of(child, output), False
                yield Verdict(check, way, problem)
                if not goes_on:
                    break
        finally:
            child.kill()


def _started(checks: list[tuple[str, str]], errors: IO[str]) -> subprocess.Popen[str]:
    """Start the process, with this one's import path."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), json.dumps(checks)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    environment = {name: value for name, value in os.environ.items() if name != SWITCH}
    return subprocess.Popen(command, text=True, env=environment, **streams)  # noqa: S603 - this Python


def _problems(stream: IO[str] | None) -> queue.SimpleQueue[str | None]:
    """Return a queue of the checks' problems, with None at the end of the process; a thread fills it."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream or ():
            if line.startswith('{"problem": '):  # skip output of modules that print when imported
                answers.put(json.loads(line)["problem"])
        answers.put(None)

    threading.Thread(target=read, daemon=True).start()
    return answers


def _end_of(child: subprocess.Popen[str], errors: IO[str]) -> str:
    """Return the signal or exit code with which the process ended, and its last line of output to stderr."""
    code = child.wait()
    errors.seek(0)
    words = errors.read().strip().splitlines()
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {ended}{': ' + words[-1] if words else ''}"
