"""
Whether regions are real: in tests and in virtual time a policy's host is this process alone.

Tests of one machine must not meet each other, nor a service that runs there, and times of a virtual clock mean nothing
to other processes.
"""

from __future__ import annotations

__all__ = ["is_private", "set_private"]

_private: set[str] = set()


def set_private(why: str, *, on: bool) -> None:
    """Let new regions be private for this reason, or no longer for it."""
    if on:
        _private.add(why)
    else:
        _private.discard(why)


def is_private() -> bool:
    """Return True if a new region is this process's alone."""
    return bool(_private)
