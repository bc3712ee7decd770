"""The network between clients and replicas."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from resilio._native.simulation import EventLoop
from resilio.simulation._laws import Law

__all__ = ["Wire"]


class Wire:
    """
    The network, which delivers each message after a random latency.

    Args:
        loop: The loop that the simulation runs in.

        law: Law of the latency; None: no time.

        random: Source of random numbers.

    Attributes:
        extra: Seconds added to each latency.
    """

    def __init__(self, loop: EventLoop, law: Law | None, random: Random) -> None:
        self.extra = 0.0
        self._loop = loop
        self._draw = None if law is None else law.sampler(random)

    def send(self, call: Callable[..., Any], *args: Any) -> None:
        """Call `call(*args)` after the latency of a message; at once if it is zero."""
        seconds = self.extra if self._draw is None else self.extra + self._draw()
        if seconds:
            self._loop.at(self._loop.now + int(seconds * 1e9), call, *args)
        else:
            call(*args)
