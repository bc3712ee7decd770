"""The caller in the user's code, for places in error messages and for stack levels of warnings."""

from __future__ import annotations

from types import FrameType

__all__ = ["outside"]


def outside(frame: FrameType) -> tuple[int, FrameType | None]:
    """
    Return the level of the nearest frame outside of this package, counted from `frame` as 1, and that frame.

    Args:
        frame: The frame to begin with, inside this package.
    """
    level, here = 1, frame
    while here.f_globals.get("__name__", "").partition(".")[0] == "resilio":
        if here.f_back is None:
            return level, None
        level, here = level + 1, here.f_back
    return level, here
