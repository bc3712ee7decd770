"""
Waits that would block a thread in which an event loop runs: where they are allowed, and how a refusal is explained.

A blocked thread stops its event loop, which has to free the permit that is waited for. So a wait is refused there. In a
notebook every cell stops the kernel's loop, as its user knows: there it is allowed. Elsewhere the caller may allow it.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from resilio._context import variables
from resilio._failures.notes import add_note
from resilio._support.call_site import outside

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["WouldBlockWarning", "add_advice", "allow_blocking", "in_notebook", "is_allowed", "warn_refusal"]

_ADVICE = (
    "waiting would stop the event loop that runs in this thread. Use the async form (`await`, `async with`, `acall`), "
    "a worker thread (asyncio.to_thread), or allow it: `with resilio.allow_blocking():`"
)


class WouldBlockWarning(RuntimeWarning):
    """A policy did not wait, because an event loop runs in the thread: a call was refused, or not retried."""


@contextmanager
def allow_blocking() -> Iterator[None]:
    """
    Let policies block this thread although an event loop runs in it: `with resilio.allow_blocking():`.

    For plain functions that are called where a loop happens to run, as with Playwright's sync API: retries wait between
    attempts, and calls wait for permits and tokens, while the loop stands still. In a cell of a notebook that is so
    without it. It holds for this context, tasks that are started inside included; also a decorator of plain functions.
    """
    token = variables.may_stop_loop.set(True)
    try:
        yield
    finally:
        variables.may_stop_loop.reset(token)


def is_allowed(*, asyncio_alone: bool) -> bool:
    """
    Return whether this thread may be blocked although an event loop runs in it.

    Args:
        asyncio_alone: Whether that loop is asyncio's, which is what kernels of notebooks run.
    """
    return variables.may_stop_loop.get() or (asyncio_alone and in_notebook())


def in_notebook() -> bool:
    """Return whether this is the thread in which a kernel of IPython executes its cells."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if get_ipython is None or sys.platform == "emscripten":  # a browser's thread can never be blocked
        return False
    with suppress(Exception):  # foreign code
        kernel = getattr(get_ipython(), "kernel", None)
        return kernel is not None and threading.current_thread() is threading.main_thread()
    return False


def warn_refusal(gate: Gate) -> None:
    """
    Warn that a policy has not waited; by Python's default filter once for each line that calls it.

    Args:
        gate: Of the policy.
    """
    with suppress(Warning):  # where warnings are errors: the refusal is one already, and says the same
        warnings.warn(f"{_label(gate)}: {_ADVICE}", WouldBlockWarning, stacklevel=outside(sys._getframe())[0])


def add_advice(error: BaseException, gate: Gate | None = None) -> None:
    """
    Note on an exception what to do about a wait that was refused.

    Args:
        error: The refusal, or what a retry gives up with.

        gate: Of the policy, where the exception does not name it.
    """
    add_note(error, _ADVICE if gate is None else f"{_label(gate)}: {_ADVICE}")


def _label(gate: Gate) -> str:
    return f"{gate.kind} {gate.name!r}" if gate.name else gate.kind
