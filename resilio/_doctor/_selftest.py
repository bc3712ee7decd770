"""
Process of the self-test: runs checks one after the other and prints a line of JSON for each.

The library's own timers are under test, so nothing here limits a check: the parent process waits for the lines, and
kills this one when they stop.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import json

import anyio

from resilio._doctor._check import UnprotectedError
from resilio._doctor._tasks import TASKS
from resilio._doctor._threads import THREADS

__all__ = ["WAYS", "named", "run"]

_BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
WAYS = (*_BACKENDS, "threads")
"""Environments of calls: three event loops and, for synchronous functions, plain threads."""


def named() -> list[tuple[str, str]]:
    """Return all pairs of a check and an environment that can run here, in order."""
    loops = [loop for loop in _BACKENDS if importlib.util.find_spec(loop)]
    return [(check, way) for check in TASKS for way in (*loops, *(["threads"] if check in THREADS else []))]


def run(checks: list[tuple[str, str]]) -> None:
    """Run these checks, and print for each a line of JSON with its problem, empty if it passes."""
    faulthandler.enable()
    for check, way in checks:
        print(json.dumps({"problem": _problem(check, way)}), flush=True)


def _problem(check: str, way: str) -> str:
    try:
        if way == "threads":
            THREADS[check]()
        else:
            backend, options = _BACKENDS[way]
            anyio.run(TASKS[check], backend=backend, backend_options=options)
    except Exception as error:  # noqa: BLE001 - any exception is a finding for the report
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):  # of the loops' task groups
            cause = cause.exceptions[0]
        return str(cause) if isinstance(cause, UnprotectedError) else f"it raised {type(cause).__name__}: {cause}"
    return ""
