"""
A server of the queueing models on virtual time: one worker, first come first served, exponential times of service.

That a caller has gone is news to it: it works on a request to the end, or, if it drops what has expired, until the
request's turn. When a request's answer comes is known as soon as it is sent, so a request costs one timer.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

__all__ = ["Server"]


@dataclass
class Server:
    """
    One worker and a queue without a bound, in the event loop that runs.

    Args:
        capacity: Requests per second that it can work on.

        random: Draws the times of service.

        patience: Seconds after which a request has expired.

        drops_expired: Whether it throws away a request that has expired when its turn comes.
    """

    capacity: float
    random: random.Random
    patience: float = 1.0
    drops_expired: bool = False
    sent: int = 0
    _free_at: float = 0.0
    _cut_off: tuple[float, float] = (0.0, 0.0)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def cut_off(self, begin: float, end: float) -> None:
        """Let the network keep what is sent between two times of the loop, and deliver it all at the second."""
        self._cut_off = (begin, end)

    def answer(self) -> asyncio.Future[None]:
        """Take a request that is sent now, and return its answer; there is none to one that has been dropped."""
        now = self._loop.time()
        self.sent += 1
        begin, end = self._cut_off
        turn = max(end if begin <= now < end else now, self._free_at)
        answer = self._loop.create_future()
        if not self.drops_expired or turn < now + self.patience:
            self._free_at = turn + self.random.expovariate(self.capacity)
            self._loop.call_at(self._free_at, _give, answer)
        return answer


def _give(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)
