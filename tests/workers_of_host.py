"""Processes that a test starts and asks: each evaluates the expressions that it gets, and can be killed."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["PATIENCE", "Asked", "started", "until"]

PATIENCE = 120.0
"""Seconds for a condition that comes to pass within one, on a machine that has other work."""

_LOOP = """
import os, sys
sys.path[:0] = {path!r}
{before}
print("ready", flush=True)
for line in sys.stdin:
    try:
        print("=" + repr(eval(line)), flush=True)
    except Exception as error:
        print("!" + repr(repr(error)), flush=True)
"""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value once it is true; fail the test if it does not become true at all."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.01)
    return value


class Asked:
    """A process that evaluates expressions."""

    def __init__(self, before: str, **environment: str) -> None:
        program = _LOOP.format(before=before, path=[str(Path(__file__).parent)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._line("ready")

    def _line(self, expected: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(expected), f"the process answered {line!r}"
        return line[1:]

    def ask(self, expression: str) -> Any:
        """Return the value of an expression there."""
        self.begin(expression)
        return self.answer()

    def begin(self, expression: str) -> None:
        """Let it evaluate an expression, and go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Return the value of the expression that has begun first."""
        return ast.literal_eval(self._line("="))

    def signal(self, number: int) -> None:
        """Send a signal; SIGKILL is also waited for."""
        os.kill(self.process.pid, number)
        if number == signal.SIGKILL:
            self.process.wait()

    def end(self) -> None:
        """End the process, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


@contextmanager
def started(n: int, before: str, **environment: str) -> Iterator[list[Asked]]:
    """Start `n` processes that have run the statements `before`, and end them."""
    all_of_them: list[Asked] = []
    try:
        all_of_them.extend(Asked(before, **environment) for _ in range(n))
        yield all_of_them
    finally:
        for one in all_of_them:
            one.end()
