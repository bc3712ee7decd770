"""Source of the seeds of policies' random numbers: the system, or a function that a test or a simulation has set."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["replace", "seed64"]

_source: Callable[[], int] | None = None


def seed64() -> int:
    """Return a seed of 64 bits for a policy's random numbers."""
    source = _source
    return int.from_bytes(os.urandom(8), "little") if source is None else source()


def replace(source: Callable[[], int] | None) -> Callable[[], int] | None:
    """
    Take seeds from `source` from now on, and return the previous one; None is the system's.

    Args:
        source: Returns an int of 64 bits at each call; called in the thread that makes a policy.
    """
    global _source
    before, _source = _source, source
    return before
