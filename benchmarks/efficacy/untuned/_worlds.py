"""
What is called, on virtual time: a flaky answer, replicas, workers with a queue, a quota, a door, three tiers.

A world has one way in, `entry()`, which returns or raises as a client's request would. That a caller has gone away is
news to it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial

from benchmarks.efficacy.untuned._cell import Call, Draw, Send, StatusError

__all__ = ["Door", "Fault", "Flaky", "Quota", "Replicas", "Served", "Tiers", "between", "warming"]

_CONNECTING = 0.001  # seconds until a connection is refused
Wrap = Callable[[Send], Send]
Span = tuple[float, float]


def between(low: float, high: float) -> Draw:
    """Return how to draw evenly between two times."""
    return partial(_between, low, high)


def _between(low: float, high: float, draw: random.Random) -> float:
    return draw.uniform(low, high)


_QUICK, _AT_ONCE, _MODEL = between(0.01, 0.03), between(0.001, 0.001), between(0.5, 3.0)


def _full(now: float) -> float:  # noqa: ARG001
    return 1.0


def warming(at: float, start: float, seconds: float) -> Callable[[float], float]:
    """Return the speed of a server that is cold from a time on: a share of its speed, and all of it after so long."""
    return partial(_warm, at, start, seconds)


def _warm(at: float, start: float, seconds: float, now: float) -> float:
    return 1.0 if now < at else min(1.0, start + (1.0 - start) * (now - at) / seconds)


@dataclass(eq=False, kw_only=True)
class _World:
    draw: random.Random
    wrap: Wrap
    count: Callable[[Call], None]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def __post_init__(self) -> None:
        self.begin = self.loop.time()

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self.loop.time() - self.begin

    def entry(self) -> Send:
        """Return the bare way to send a request, which counts it."""

        async def send(call: Call) -> None:
            self.count(call)
            await self.serve(call)

        return send

    async def serve(self, call: Call) -> None:
        """Answer a request, or raise."""
        raise NotImplementedError


@dataclass(eq=False, kw_only=True)
class Flaky(_World):
    """
    Answers whose fate is drawn for each request, whatever the load.

    Args:
        share: Of requests that fail.

        status: Of their answers; 0: the connection is refused.

        asks: Seconds of their `Retry-After`; None: none.

        took: What a good answer takes, in seconds.

        fails_in: What a failure takes.

        spans: When requests fail at all.

        slow: (begin, end, factor): when good answers take so many times as long.

        kinds: What good answers to calls of a kind take.

        broken: Kinds whose calls always fail.
    """

    share: float = 0.0
    status: int = 503
    asks: float | None = None
    took: Draw = _QUICK
    fails_in: Draw = _AT_ONCE
    spans: Sequence[Span] = ((0.0, math.inf),)
    slow: Sequence[tuple[float, float, float]] = ()
    kinds: dict[str, Draw] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()

    async def serve(self, call: Call) -> None:
        """Answer as drawn."""
        now, unlucky = self.now, self.draw.random() < self.share
        if call.kind in self.broken or (unlucky and any(begin <= now < end for begin, end in self.spans)):
            await asyncio.sleep(self.fails_in(self.draw))
            raise StatusError(self.status, self.asks) if self.status else ConnectionRefusedError("refused")
        took = self.kinds.get(call.kind, self.took)(self.draw)
        await asyncio.sleep(took * math.prod(times for begin, end, times in self.slow if begin <= now < end))


@dataclass(frozen=True)
class Fault:
    """
    What befalls one replica.

    Attributes:
        replica: Its number.

        begin: In seconds.

        end: In seconds.

        times: How many times as long its answers take; infinite: it hangs; 0: it refuses connections.

        share: Of requests that meet it.
    """

    replica: int
    begin: float = 0.0
    end: float = math.inf
    times: float = 0.0
    share: float = 1.0


@dataclass(eq=False, kw_only=True)
class Replicas(_World):
    """
    Replicas behind a balancer; another attempt of a call goes to a replica that it has not been to.

    Args:
        number: How many.

        faults: What befalls them.

        took: What an answer takes, in seconds.

        least: Whether the one with the fewest under way is chosen, not a random one.
    """

    number: int = 8
    faults: Sequence[Fault] = ()
    took: Draw = _QUICK
    least: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.busy = [0] * self.number

    async def serve(self, call: Call) -> None:
        """Answer from the replica that the balancer chooses."""
        replica = self._choose(call)
        self.busy[replica] += 1
        try:
            await self._answer(replica)
        finally:
            self.busy[replica] -= 1

    def _choose(self, call: Call) -> int:
        open_to = [one for one in range(self.number) if one not in call.tried] or list(range(self.number))
        fewest = min(self.busy[one] for one in open_to)
        replica = self.draw.choice([one for one in open_to if not self.least or self.busy[one] == fewest])
        call.tried.append(replica)
        return replica

    async def _answer(self, replica: int) -> None:
        now, times = self.now, 1.0
        for fault in self.faults:
            if fault.replica == replica and fault.begin <= now < fault.end and self.draw.random() < fault.share:
                times *= fault.times
        if times == 0.0:
            await asyncio.sleep(_CONNECTING)
            raise ConnectionRefusedError("refused")
        if math.isinf(times):
            await self.loop.create_future()
        await asyncio.sleep(self.took(self.draw) * times)


@dataclass(eq=False, kw_only=True)
class Served(_World):
    """
    Workers with a queue, first come first served; they work on a request to the end.

    Args:
        service: What a worker takes, in seconds.

        workers: How many, as (since, number).

        room: That may wait; more get a 503 at once.

        expires: Seconds after which a request is dropped when its turn comes; None: never.

        held: When the network keeps requests, and delivers them all at the end.

        down: When connections are refused.

        speed: Of the workers at a time.

        asks: Seconds of the 503's `Retry-After`.

        gives_up: Seconds after which a request ends in a timeout for its caller, while the work goes on.
    """

    service: Draw
    workers: Sequence[tuple[float, int]] = ((0.0, 1),)
    room: float = math.inf
    expires: float | None = None
    held: Span = (math.inf, math.inf)
    down: Span = (math.inf, math.inf)
    speed: Callable[[float], float] = _full
    asks: float | None = None
    gives_up: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.working = 0
        self.waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    async def serve(self, call: Call) -> None:  # noqa: ARG002
        """Wait for a worker and for its work."""
        now = self.now
        if self.down[0] <= now < self.down[1]:
            await asyncio.sleep(_CONNECTING)
            raise ConnectionRefusedError("refused")
        if len(self.waiting) >= self.room:
            await asyncio.sleep(_CONNECTING)
            raise StatusError(503, self.asks)
        answer = self.loop.create_future()
        if self.held[0] <= now < self.held[1]:
            self.loop.call_at(self.begin + self.held[1], self._take, now, answer)
        else:
            self._take(now, answer)
        async with asyncio.timeout(self.gives_up):
            await answer

    def _take(self, at: float, answer: asyncio.Future[None]) -> None:
        self.waiting.append((at, answer))
        self._start()

    def _start(self) -> None:
        now = self.now
        most = [number for since, number in self.workers if since <= now][-1]
        while self.waiting and self.working < most:
            at, answer = self.waiting.popleft()
            if self.expires is None or now - at < self.expires:
                self.working += 1
                self.loop.call_later(self.service(self.draw) / self.speed(now), self._end, answer)

    def _end(self, answer: asyncio.Future[None]) -> None:
        self.working -= 1
        if not answer.done():
            answer.set_result(None)
        self._start()


@dataclass(eq=False, kw_only=True)
class Quota(_World):
    """
    A provider that counts the requests of the last minute, and asks those above its quota to come back in time.

    Args:
        quota: Requests a minute.

        took: What an answer takes.

        says: Whether a 429 has a `Retry-After`.
    """

    quota: int = 60
    took: Draw = _MODEL
    says: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: deque[float] = deque()

    async def serve(self, call: Call) -> None:  # noqa: ARG002
        """Answer within the quota."""
        now, seen = self.now, self.seen
        while seen and seen[0] <= now - 60.0:
            seen.popleft()
        if len(seen) >= self.quota:
            await asyncio.sleep(0.05)
            raise StatusError(429, math.ceil(seen[0] + 60.0 - now) if self.says else None)
        seen.append(now)
        await asyncio.sleep(self.took(self.draw))


@dataclass(eq=False, kw_only=True)
class Door(_World):
    """
    A server that takes so many requests a second and asks the others to come back after a time.

    Args:
        rate: Requests a second.

        burst: That may come at once.

        opens: Until then it takes none.

        asks: Seconds of the `Retry-After`.

        status: Of its rejections.
    """

    rate: float
    burst: float
    opens: float = 0.0
    asks: float | None = 1.0
    status: int = 503

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokens, self.at = self.burst, self.opens

    async def serve(self, call: Call) -> None:  # noqa: ARG002
        """Take it, or ask it to come back."""
        now = self.now
        if now >= self.opens:
            self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
            self.at = now
        await asyncio.sleep(0.005)
        if now < self.opens or self.tokens < 1.0:
            raise StatusError(self.status, self.asks)
        self.tokens -= 1.0
        await asyncio.sleep(0.02)


@dataclass(eq=False, kw_only=True)
class Tiers(Served):
    """
    Workers behind services that only pass calls on, each with the same stack as the outermost client.

    Args:
        between: How many services pass a call on.
    """

    between: int = 2

    def entry(self) -> Send:
        """Return the way through the services, each behind a stack of its own."""
        send = super().entry()
        for _ in range(self.between):
            send = self._service(self.wrap(send))
        return send

    def _service(self, send: Send) -> Send:
        """Return a service of another process: it knows no context of its caller's, and goes on without him."""

        async def passed(call: Call) -> None:
            task = self.loop.create_task(_coroutine(send, call), context=Context())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(task)

        return passed


async def _coroutine(send: Send, call: Call) -> None:
    await send(call)
