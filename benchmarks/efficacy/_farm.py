"""
Servers side by side on virtual time, each with one worker, and the ways in which calls get to them.

A call is sent with its `Job`, whose sizes and choices of servers are drawn in advance: so runs with and without hedges
meet the same calls, and differ by nothing but the hedges. Its copies are equal in size, or each has its own.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Dispatch", "Farm", "Job"]

Dispatch = Literal["random", "shortest of two", "central queue"]


class Job:
    """What a call asks for: the seconds that its first and its second copy takes, and which servers each may go to."""

    __slots__ = ("copies", "first", "picks", "sizes")

    def __init__(self, sizes: list[float], picks: list[int]) -> None:
        self.sizes = sizes
        self.picks = picks
        self.copies = 0
        self.first: _Server | None = None


class _Copy:
    __slots__ = ("answer", "dropped", "server", "size", "timer")

    def __init__(self, answer: asyncio.Future[None], size: float) -> None:
        self.answer = answer
        self.size = size
        self.server: _Server | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.dropped = False


class _Server:
    __slots__ = ("current", "load", "queue")

    def __init__(self, queue: deque[_Copy] | None) -> None:
        self.queue: deque[_Copy] = deque() if queue is None else queue
        self.current: _Copy | None = None
        self.load = 0


@dataclass
class Farm:
    """
    Servers in the event loop that runs.

    Args:
        dispatch: To a server at random, to the one of two with fewer calls, or from one queue to who is free. A second
            copy goes to another server than the first.

        stops: Whether a server that is told that nobody waits any more stops, or takes the call out of its queue.

        size: How many servers.
    """

    dispatch: Dispatch
    stops: bool
    size: int = 10
    calls: int = 0
    copies: int = 0
    most_extra: float = 0.0
    copied_at: list[float] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def __post_init__(self) -> None:
        shared: deque[_Copy] | None = deque() if self.dispatch == "central queue" else None
        self._servers = [_Server(shared) for _ in range(self.size)]

    def picks(self, draw: random.Random) -> list[int]:
        """Draw two servers for each of a call's first two copies."""
        return [draw.randrange(self.size - fewer) for fewer in (0, 1, 1, 2)]

    async def send(self, job: Job) -> None:
        """Send a copy of a call, and wait for its answer."""
        if job.copies == 0:
            self.calls += 1
        else:
            self.copies += 1
            self.copied_at.append(self._loop.time())
            self.most_extra = max(self.most_extra, self.copies / self.calls)
        copy = _Copy(self._loop.create_future(), job.sizes[job.copies])
        server = self._choose(job)
        job.copies += 1
        copy.server = server
        server.load += 1
        server.queue.append(copy)
        if server.current is None:
            self._next(server)
        if self.stops:
            try:
                await copy.answer
            except asyncio.CancelledError:
                self._stop(copy)
                raise
        else:
            await copy.answer

    def _choose(self, job: Job) -> _Server:
        servers = self._servers
        if self.dispatch == "central queue":
            return next((server for server in servers if server.current is None), servers[0])
        if job.first is not None:
            servers = [server for server in servers if server is not job.first]
        first, second = job.picks[2 * job.copies : 2 * job.copies + 2]
        server = servers[first]
        if self.dispatch == "shortest of two":
            other = servers[(first + 1 + second) % len(servers)]
            server = other if other.load < server.load else server
        job.first = job.first or server
        return server

    def _next(self, server: _Server) -> None:
        server.current = None
        while server.queue:
            copy = server.queue.popleft()
            if copy.dropped:
                continue
            copy.server = server
            server.current = copy
            copy.timer = self._loop.call_later(copy.size, self._ended, copy)
            return

    def _ended(self, copy: _Copy) -> None:
        if not copy.answer.done():
            copy.answer.set_result(None)
        self._leave(copy)

    def _stop(self, copy: _Copy) -> None:
        if copy.timer is None:
            copy.dropped = True
            if copy.server is not None:
                copy.server.load -= 1
        elif copy.server is not None and copy.server.current is copy:
            copy.timer.cancel()
            self._leave(copy)

    def _leave(self, copy: _Copy) -> None:
        server = copy.server
        if server is not None:
            server.load -= 1
            self._next(server)
