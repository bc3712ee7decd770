"""Yields of the GIL between batches of a scrape, so that calls are not delayed."""

from __future__ import annotations

from time import sleep

__all__ = ["AT_A_STRETCH", "take_turns"]

AT_A_STRETCH = 25
"""Policies read, or written, before the GIL is yielded to other threads, about half a millisecond."""


def take_turns(number: int) -> None:
    """Yield the GIL to other threads at every `AT_A_STRETCH`-th number."""
    if number % AT_A_STRETCH == 0:
        sleep(0)
