"""
What others do by default, each re-implemented small from its documentation, apart from the library.

A peer is made of a seed and called with the bare way to send and a call. What it remembers (tokens, a breaker) belongs
to the client that it is made for.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from benchmarks.efficacy.untuned._cell import Call, Send, StatusError

__all__ = ["AWS", "PEERS", "Envoy", "Grpc", "Naive", "Nothing", "OpenAI", "Peer", "Polly", "Resilience4j", "Tenacity"]


class Peer(Protocol):
    """One client's way to make a call."""

    async def __call__(self, send: Send, call: Call, /) -> None:
        """Make the call, or raise what its last attempt raised."""
        ...


class _OpenError(Exception):
    """A peer's breaker is open."""


def _status(error: Exception) -> int:
    return error.status_code if isinstance(error, StatusError) else 0


def _asked(error: Exception) -> float | None:
    return error.retry_after if isinstance(error, StatusError) else None


def _unwell(error: Exception) -> bool:
    """Whether it is a 5xx, a lost connection or a timeout."""
    return _status(error) >= 500 or isinstance(error, (ConnectionError, TimeoutError))


class Nothing:
    """The bare call."""

    def __init__(self, seed: int = 0) -> None: ...

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it once."""
        await send(call)


class Naive:
    """
    Attempts one right after the other, whatever the failure was.

    Args:
        seed: Nothing is drawn.

        attempts: In all.

        cut: Seconds that one may take.
    """

    def __init__(self, seed: int = 0, attempts: int = 3, cut: float = 10.0) -> None:  # noqa: ARG002
        self.attempts, self.cut = attempts, cut

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it until it is answered, or no attempt is left."""
        for left in reversed(range(self.attempts)):
            try:
                async with asyncio.timeout(self.cut):
                    await send(call)
            except Exception:
                if not left:
                    raise
            else:
                return


class Envoy:
    """`retry_on: 5xx`: one retry within 25 ms at random, three at a time in the cluster, 15 s for the route."""

    BASE, AT_A_TIME, ROUTE = 0.025, 3, 15.0

    def __init__(self, seed: int = 0) -> None:
        self.draw, self.retrying = random.Random(seed), 0

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it, and once more after a 5xx."""
        async with asyncio.timeout(self.ROUTE):
            try:
                return await send(call)
            except Exception as error:
                if not _unwell(error) or self.retrying >= self.AT_A_TIME:
                    raise
            self.retrying += 1
            try:
                await asyncio.sleep(self.draw.uniform(0.0, self.BASE))
                await send(call)
            finally:
                self.retrying -= 1


class Grpc:
    """Proposal A6 with its example: 4 attempts, 0.1 s doubled to 1 s +-20 %, UNAVAILABLE, tokens 10 and 0.1."""

    ATTEMPTS, FIRST, LONGEST, TOKENS, RATIO = 4, 0.1, 1.0, 10.0, 0.1

    def __init__(self, seed: int = 0) -> None:
        self.draw, self.tokens = random.Random(seed), self.TOKENS

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it; a failure takes a token, and half of the tokens must be left for a retry."""
        for attempt in range(self.ATTEMPTS):
            try:
                await send(call)
            except Exception as error:
                if not (_status(error) in {429, 502, 503, 504} or isinstance(error, ConnectionError)):
                    raise
                self.tokens = max(0.0, self.tokens - 1.0)
                if attempt == self.ATTEMPTS - 1 or self.tokens <= self.TOKENS / 2:
                    raise
            else:
                self.tokens = min(self.TOKENS, self.tokens + self.RATIO)
                return
            await asyncio.sleep(min(self.LONGEST, self.FIRST * 2**attempt) * self.draw.uniform(0.8, 1.2))


class AWS:
    """
    The SDKs' standard mode of 2026.

    3 attempts with full jitter, from 50 ms (1 s for throttles) to 20 s; 500 tokens, of which a retry takes 14 and one
    after a throttle 5, given back by its success, and any other success pays in 1; what the server asks for is
    obeyed up to 5 s beyond the wait that was drawn.
    """

    ATTEMPTS, BASE, THROTTLED, LONGEST = 3, 0.05, 1.0, 20.0
    TOKENS, RETRY, THROTTLE, PAYS, BEYOND = 500, 14, 5, 1, 5.0

    def __init__(self, seed: int = 0) -> None:
        self.draw, self.tokens = random.Random(seed), self.TOKENS

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it, and again while tokens last."""
        taken = 0
        for attempt in range(self.ATTEMPTS):
            try:
                await send(call)
            except Exception as error:
                throttle = _status(error) == 429
                cost = self.THROTTLE if throttle else self.RETRY
                if not (throttle or _unwell(error)) or attempt == self.ATTEMPTS - 1 or cost > self.tokens:
                    raise
                taken, self.tokens = cost, self.tokens - cost
                await asyncio.sleep(self._wait(attempt, throttle, _asked(error)))
            else:
                self.tokens = min(self.TOKENS, self.tokens + (taken or self.PAYS))
                return

    def _wait(self, attempt: int, throttle: bool, asked: float | None) -> float:
        longest = min(self.LONGEST, (self.THROTTLED if throttle else self.BASE) * 2**attempt)
        wait = self.draw.uniform(0.0, longest)
        return wait if asked is None else min(max(asked, wait), wait + self.BEYOND)


class Polly:
    """
    The standard handler of Microsoft.Extensions.Http.Resilience.

    30 s in all; 3 retries, exponential from 2 s with decorrelated jitter, `Retry-After` obeyed exactly; a breaker at
    10 % of at least 100 calls in 30 s, open for 5 s, one probe; 10 s an attempt.
    """

    TOTAL, RETRIES, BASE, ATTEMPT = 30.0, 3, 2.0, 10.0
    RATIO, LEAST, WINDOW, OPEN = 0.1, 100, 30.0, 5.0

    def __init__(self, seed: int = 0) -> None:
        self.draw = random.Random(seed)
        self.seen: deque[tuple[float, bool]] = deque()
        self.failed, self.opened, self.open_until, self.probing = 0, False, 0.0, False

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it within 30 s; an open breaker is not retried."""
        waits = self._waits()
        async with asyncio.timeout(self.TOTAL):
            for left in reversed(range(self.RETRIES + 1)):
                try:
                    await self._attempt(send, call)
                except Exception as error:
                    if not left or not self._counts(error):
                        raise
                    wait, asked = next(waits), _asked(error)
                else:
                    return
                await asyncio.sleep(wait if asked is None else asked)

    def _waits(self) -> Iterator[float]:
        before = 0.0
        for retry in range(self.RETRIES):
            t = retry + self.draw.random()
            now = 2.0**t * math.tanh(math.sqrt(4.0 * t))
            yield (now - before) / 1.4 * self.BASE
            before = now

    @staticmethod
    def _counts(error: Exception) -> bool:
        return _unwell(error) or _status(error) in {408, 429}

    async def _attempt(self, send: Send, call: Call) -> None:
        now = asyncio.get_running_loop().time
        if self.opened and (self.probing or now() < self.open_until):
            raise _OpenError
        probe = self.probing = self.opened
        failed = False
        try:
            async with asyncio.timeout(self.ATTEMPT):
                await send(call)
        except Exception as error:
            failed = self._counts(error)
            raise
        finally:
            self._count(now(), failed, probe)

    def _count(self, now: float, failed: bool, probe: bool) -> None:
        if probe:
            self.probing, self.opened, self.open_until = False, failed, now + self.OPEN
            self.seen.clear()
            self.failed = 0
            return
        self.seen.append((now, failed))
        self.failed += failed
        while self.seen[0][0] <= now - self.WINDOW:
            self.failed -= self.seen.popleft()[1]
        if not self.opened and len(self.seen) >= self.LEAST and self.failed >= self.RATIO * len(self.seen):
            self.opened, self.open_until = True, now + self.OPEN


class Resilience4j:
    """3 attempts half a second apart; a breaker at 50 % of the last 100, open 60 s, 10 probes; 1 s an attempt."""

    ATTEMPTS, WAIT, ATTEMPT = 3, 0.5, 1.0
    RATIO, COUNT, OPEN, PROBES = 0.5, 100, 60.0, 10

    def __init__(self, seed: int = 0) -> None:  # noqa: ARG002
        self.seen: deque[bool] = deque(maxlen=self.COUNT)
        self.open_until: float | None = None
        self.asked, self.probes = 0, list[bool]()

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it; what the breaker rejects is retried as well."""
        for left in reversed(range(self.ATTEMPTS)):
            try:
                await self._attempt(send, call)
            except Exception:
                if not left:
                    raise
            else:
                return
            await asyncio.sleep(self.WAIT)

    async def _attempt(self, send: Send, call: Call) -> None:
        probe = self.open_until is not None
        self._admit(asyncio.get_running_loop().time())
        failed = True
        try:
            async with asyncio.timeout(self.ATTEMPT):
                await send(call)
            failed = False
        finally:
            self._count(failed, probe, asyncio.get_running_loop().time())

    def _admit(self, now: float) -> None:
        if self.open_until is None:
            return
        if now < self.open_until or self.asked >= self.PROBES:
            raise _OpenError
        self.asked += 1

    def _count(self, failed: bool, probe: bool, now: float) -> None:
        if probe:
            self.probes.append(failed)
            if len(self.probes) == self.PROBES:
                bad = sum(self.probes) >= self.RATIO * self.PROBES
                self.open_until, self.asked, self.probes = (now + self.OPEN if bad else None), 0, []
                self.seen.clear()
        elif self.open_until is None:
            self.seen.append(failed)
            if len(self.seen) == self.COUNT and sum(self.seen) >= self.RATIO * self.COUNT:
                self.open_until = now + self.OPEN


class OpenAI:
    """The SDK for models: 2 retries, 0.5 s doubled to 8 s less up to a quarter, `Retry-After` obeyed up to a minute."""

    RETRIES, FIRST, LONGEST, MINUTE = 2, 0.5, 8.0, 60.0

    def __init__(self, seed: int = 0) -> None:
        self.draw = random.Random(seed)

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it, and twice more."""
        for retry in range(self.RETRIES + 1):
            try:
                await send(call)
            except Exception as error:
                if retry == self.RETRIES or not (_unwell(error) or _status(error) in {408, 409, 429}):
                    raise
                asked = _asked(error)
            else:
                return
            wait = min(self.LONGEST, self.FIRST * 2**retry) * (1 - 0.25 * self.draw.random())
            await asyncio.sleep(asked if asked is not None and 0 < asked <= self.MINUTE else wait)


class Tenacity:
    """What guides for models' APIs make of tenacity: 6 attempts, full jitter from 1 to 60 s, `Retry-After` ignored."""

    ATTEMPTS, FIRST, LONGEST = 6, 1.0, 60.0

    def __init__(self, seed: int = 0) -> None:
        self.draw = random.Random(seed)

    async def __call__(self, send: Send, call: Call) -> None:
        """Send it, whatever the failure was, up to six times."""
        for attempt in range(self.ATTEMPTS):
            try:
                await send(call)
            except Exception:
                if attempt == self.ATTEMPTS - 1:
                    raise
            else:
                return
            await asyncio.sleep(self.draw.uniform(0.0, min(self.LONGEST, self.FIRST * 2**attempt)))


PEERS: dict[str, type[Envoy | Grpc | AWS | Polly | Resilience4j]] = {
    "Envoy": Envoy,
    "gRPC": Grpc,
    "AWS": AWS,
    "Polly": Polly,
    "resilience4j": Resilience4j,
}
"""Those that `standard` is compared to in every cell of clients."""
