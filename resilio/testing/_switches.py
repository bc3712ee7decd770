"""Two switches for tests: run guarded functions without their policies, or let no call wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from resilio._context import variables
from resilio._native import core

__all__ = ["disabled", "no_wait"]


@contextmanager
def disabled() -> Iterator[None]:
    """
    Run guarded functions without their policies: no gate is entered, nothing is counted or rejected.

    It applies to this context: the block itself and the tasks started in it, not to other tasks and threads.
    """
    core.bypass_enter()
    try:
        with _on(variables.bypass):
            yield
    finally:
        core.bypass_exit()


@contextmanager
def no_wait() -> Iterator[None]:
    """
    Let no call wait: admit at once a call that time alone would admit, and reject one that needs another call to end.

    It applies to this context: the block itself and the tasks started in it, not to other tasks and threads.
    """
    core.no_wait_enter()
    try:
        with _on(variables.no_wait):
            yield
    finally:
        core.no_wait_exit()


@contextmanager
def _on(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)
