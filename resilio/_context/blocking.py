"""
Waits that would block a thread in which an event loop runs: where they are allowed, and the advice of a rejection.

A blocked thread stops its event loop, which may have to run the call that frees the awaited permit. So a wait is
rejected there. In a notebook every cell stops the kernel's loop, as its user knows, so waits are allowed. Elsewhere the
caller may allow them.
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

__all__ = ["WouldBlockWarning", "add_advice", "allow_blocking", "in_notebook", "is_allowed", "warn_rejection"]

_ADVICE = (
    "waiting would stop the event loop that runs in this thread. Use the async form (`await`, `async with`, `acall`), "
    "a worker thread (asyncio.to_thread), or allow it: `with resilio.allow_blocking():`"
)


class WouldBlockWarning(RuntimeWarning):
    """Warning that a policy rejected or did not retry a call, as a wait would block a thread with an event loop."""


@contextmanager
def allow_blocking() -> Iterator[None]:
    """
    Allow policies to block this thread although an event loop runs in it: `with resilio.allow_blocking():`.

    For plain functions called in a thread with a loop, as with Playwright's sync API. Retries wait between attempts,
    and calls wait for permits and tokens, while the loop stands still. Cells of a notebook do not need it. It applies
    to this context, including tasks started inside; also a decorator of plain functions.
    """
    token = variables.may_stop_loop.set(True)
    try:
        yield
    finally:
        variables.may_stop_loop.reset(token)


def is_allowed(*, asyncio_alone: bool) -> bool:
    """
    Return True if this thread may be blocked although an event loop runs in it.

    Args:
        asyncio_alone: True if that loop is asyncio's, which the kernels of notebooks run.
    """
    return variables.may_stop_loop.get() or (asyncio_alone and in_notebook())


def in_notebook() -> bool:
    """Return True in the thread in which a kernel of IPython executes its cells."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if get_ipython is None or sys.platform == "emscripten":  # a browser's thread can never be blocked
        return False
    with suppress(Exception):  # foreign code
        kernel = getattr(get_ipython(), "kernel", None)
        return kernel is not None and threading.current_thread() is threading.main_thread()
    return False


def warn_rejection(gate: Gate) -> None:
    """
    Warn that a policy has not waited; by Python's default filter once for each line that calls it.

    Args:
        gate: The policy's gate.
    """
    with suppress(Warning):  # if warnings are errors: the rejection is an error already, with the same advice
        warnings.warn(f"{_label(gate)}: {_ADVICE}", WouldBlockWarning, stacklevel=outside(sys._getframe())[0])


def add_advice(error: BaseException, gate: Gate | None = None) -> None:
    """
    Add a note to an exception with the advice for a wait that was rejected.

    Args:
        error: The rejection, or the exception with which a retry gives up.

        gate: The policy's gate, if the exception does not name the policy.
    """
    add_note(error, _ADVICE, gate)


def _label(gate: Gate) -> str:
    return f"{gate.kind} {gate.name!r}" if gate.name else gate.kind
