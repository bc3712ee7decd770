"""Where policies get the seed of their random numbers: the system, or one seed that a test or a simulation gave."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["replace", "seed64"]

_source: Callable[[], int] | None = None


def seed64() -> int:
    """Return 64 bits for a policy to begin its random numbers with."""
    source = _source
    return int.from_bytes(os.urandom(8), "little") if source is None else source()


def replace(source: Callable[[], int] | None) -> Callable[[], int] | None:
    """
    Have seeds come from `source` from here on, and return the one before; None is the system's.

    Args:
        source: Gives an int of 64 bits at each call; called by whoever makes a policy.
    """
    global _source
    before, _source = _source, source
    return before
