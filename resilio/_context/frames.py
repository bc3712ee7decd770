"""
Owner frames of blocks, found through `contextlib`.

A generator runs in the context of its consumer. So at each `yield` the consumer would see the ambient values that a
block in the generator has set. A `@contextmanager` function intends exactly that: its `yield` is the body of its
user's block.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

from resilio._native.core import generator_of

__all__ = ["entered_in", "generator_behind"]

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def entered_in(frame: FrameType) -> FrameType:
    """
    Return the frame that uses a context manager, directly or by an exit stack.

    Args:
        frame: The frame that called the context manager's method.
    """
    here = frame
    while here.f_globals.get("__name__") == "contextlib" and here.f_back is not None:
        here = here.f_back
    return here


def generator_behind(frame: FrameType) -> Any:
    """
    Return the generator or async generator whose consumer would see the values of a block in `frame`, or None.

    Args:
        frame: The frame in which the block was entered.
    """
    while _yields(frame):
        driver = frame.f_back
        if driver is None or driver.f_globals.get("__name__") != "contextlib":
            return generator_of(frame)
        frame = entered_in(driver)
    return None


def _yields(frame: FrameType) -> bool:
    flags = frame.f_code.co_flags
    return bool(flags & _GENERATOR) and not flags & inspect.CO_ITERABLE_COROUTINE
