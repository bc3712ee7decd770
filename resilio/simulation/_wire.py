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
    Delivers messages, each after a time of its own.

    Args:
        loop: The loop that the simulation runs in.

        law: How long a message takes; None: no time.

        random: What to draw from.

    Attributes:
        extra: Seconds that each message takes besides.
    """

    def __init__(self, loop: EventLoop, law: Law | None, random: Random) -> None:
        self.extra = 0.0
        self._loop = loop
        self._draw = None if law is None else law.sampler(random)

    def send(self, call: Callable[..., Any], *args: Any) -> None:
        """Have `call(*args)` called at the other end; at once, if the network takes no time."""
        seconds = self.extra if self._draw is None else self.extra + self._draw()
        if seconds:
            self._loop.at(self._loop.now + int(seconds * 1e9), call, *args)
        else:
            call(*args)
