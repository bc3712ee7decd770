"""Origin of an error: its frames show which side was at fault if a request could not be sent."""

from __future__ import annotations

from collections.abc import Iterator
from traceback import walk_tb
from types import FrameType

from resilio._failures.causes import causes

__all__ = ["frames_of", "module_of", "ways_of"]


def frames_of(error: BaseException) -> list[FrameType]:
    """Return the frames of an error itself, without those of its causes, outermost first."""
    return [frame for frame, _ in walk_tb(error.__traceback__)]


def ways_of(error: BaseException) -> Iterator[list[FrameType]]:
    """Yield the frames of an error, then those of its causes."""
    return (frames_of(one) for one in causes(error))


def module_of(frame: FrameType) -> str:
    """Return the name of the module whose code a frame runs."""
    return str(frame.f_globals.get("__name__", ""))
