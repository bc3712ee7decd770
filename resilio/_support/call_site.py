"""Who in the user's code called us: for places in error messages, and for where a warning points."""

from __future__ import annotations

from types import FrameType

__all__ = ["outside"]


def outside(frame: FrameType) -> tuple[int, FrameType | None]:
    """
    Return the nearest frame outside of this package, and which it is, counted from `frame` as 1.

    Args:
        frame: Where to begin, inside this package.
    """
    level, here = 1, frame
    while here.f_globals.get("__name__", "").partition(".")[0] == "resilio":
        if here.f_back is None:
            return level, None
        level, here = level + 1, here.f_back
    return level, here
