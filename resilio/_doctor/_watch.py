"""
The checks run in a process of their own: a crash, or a check that never ends, is a result too.

The library's own timers are under test, so nothing in that process limits a check: this one waits for each result, and
kills that process when none comes.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import attrs

from resilio._context.variables import bypass
from resilio._doctor._checks import checks_here, problem_of

__all__ = ["PATIENCE", "Verdict", "verdicts"]

PATIENCE = 20.0
"""Seconds without a result after which a check counts as never ending. On an idle machine a check takes 0.05."""

_PROCESSES: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
"""On macOS a fork is not safe, and Windows has none."""


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
    left = checks_here() if checks is None else list(checks)
    while left:
        for verdict in _of_one_process(left, patience):
            left = left[1:]
            yield verdict


def _of_one_process(checks: Sequence[tuple[str, str]], patience: float) -> Iterator[Verdict]:
    """Yield the verdicts of one process, at least one; if it hung or crashed, the last verdict is about that."""
    answers, answer = _PROCESSES.Pipe(duplex=False)
    child = _PROCESSES.Process(target=_run, args=(checks, answer), daemon=True)
    child.start()
    answer.close()
    asked = checks[0]
    try:
        for asked in checks:
            if not answers.poll(patience):
                yield Verdict(*asked, f"it never ended: it was still waiting after {patience:g} s")
                return
            yield Verdict(*asked, answers.recv())
    except EOFError:
        child.join()
        code = child.exitcode
        ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        yield Verdict(*asked, f"its process ended with {ended}")
    finally:
        child.kill()
        child.join()
        answers.close()


def _run(checks: Sequence[tuple[str, str]], answer: Connection) -> None:
    """Send the problem of each check; they run without the switch `RESILIO_DISABLED`."""
    faulthandler.enable(2)  # the number of stderr: the object may be a stand-in
    bypass.set(False)
    for check, way in checks:
        answer.send(problem_of(check, way))
