"""Fresh processes that import what this one imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["child"]


def child(arguments: Sequence[str], *, before: Sequence[str] = (), **environment: str) -> str:
    """
    Run this interpreter once more and return what it printed.

    Args:
        arguments: Of the interpreter: `-m`, a module, and the module's own.

        before: A program that runs the interpreter, with its arguments, such as valgrind.

        environment: Added to this process's environment; the child's path is this process's path, in its order.

    Raises:
        RuntimeError: The child failed; the message is the last line that it wrote to standard error.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)  # an empty one is the folder of now
    done = subprocess.run(
        [*before, sys.executable, "-P", *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return done.stdout
