"""A KeyboardInterrupt before any one instruction, chosen by its number."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

__all__ = ["Interrupter", "InterrupterOfCalls"]


def interrupt() -> None:
    """Raise a KeyboardInterrupt."""
    raise KeyboardInterrupt


class Interrupter:
    """
    Raises a KeyboardInterrupt before the n-th instruction of a function, counted in all that it calls in Python.

    Args:
        number: From 0.

        hits: Whether the instructions of this frame count, asked as it begins; None: all do.

        interrupt: Raises it.
    """

    def __init__(
        self,
        number: int,
        hits: Callable[[FrameType], bool] | None = None,
        interrupt: Callable[[], None] = interrupt,
    ) -> None:
        self.left = number
        self._hits = hits
        self._interrupt = interrupt

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        """Trace: the interpreter asks before each instruction."""
        if event == "call" and self._hits is not None and not self._hits(frame):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                self._interrupt()
        return self

    def begin(self, *, here: bool = False) -> None:
        """
        Trace what the caller calls from here on, until `sys.settrace` ends it.

        Args:
            here: And what the caller does itself.
        """
        frame = sys._getframe(1)
        frame.f_trace_opcodes = True  # 3.12 looks for it here once
        if here:
            frame.f_trace = self
        sys.settrace(self)


class InterrupterOfCalls(Interrupter):
    """Raises one as the n-th function in Python begins: between any two instructions CPython itself looks at none."""

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Trace: the interpreter asks as each function begins; generators may be closed where nothing comes out."""
        hits = self._hits is None or self._hits(frame)
        self.left -= hits and not frame.f_code.co_flags & CO_GENERATOR
        if self.left < 0:
            self._interrupt()
