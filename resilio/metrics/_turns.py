"""Whoever reads many policies lets other threads have their turn in between: a call does not wait for a scrape."""

from __future__ import annotations

from time import sleep

__all__ = ["AT_A_STRETCH", "take_turns"]

AT_A_STRETCH = 25
"""Policies that are read, or written, before somebody else has the interpreter: some half a millisecond."""


def take_turns(number: int) -> None:
    """Give the interpreter to whoever waits for it, each so many policies."""
    if number % AT_A_STRETCH == 0:
        sleep(0)
