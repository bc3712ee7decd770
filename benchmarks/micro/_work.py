"""The work that subjects are compared at: callees, empty wrappers, and what drives and checks what a subject made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, TypeAlias, cast

import attrs

import resilio
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._loops import Loop, awaits_rejected, calls_rejected, feeds, own_code

__all__ = [
    "ANSWER",
    "QUANTILE_OF",
    "AsyncFunction",
    "Recording",
    "Rejecting",
    "Trying",
    "acallee",
    "acallee_of_three",
    "afailing",
    "async_wrapper",
    "callee",
    "check_answer",
    "check_async_answer",
    "check_callable",
    "check_quantile",
    "check_recording",
    "check_taken",
    "failing",
    "fresh_name",
    "latencies",
    "sync_wrapper",
]

AsyncFunction: TypeAlias = Callable[..., Awaitable[int]]
ANSWER = 42
QUANTILE_OF = 20_000
"""How many latencies a histogram holds when it is asked for a quantile."""
_FAILURES = 1000
_numbers = count()


def fresh_name() -> str:
    """Return a policy's name that no other policy has."""
    return f"bench-{next(_numbers)}"


def callee() -> Callable[[], int]:
    """Return a new sync function that does nothing, quickly."""

    def call() -> int:
        return ANSWER

    return own_code(call)


def acallee() -> AsyncFunction:
    """Return a new async function that does nothing, quickly."""

    async def call() -> int:
        return ANSWER

    return own_code(call)


def acallee_of_three() -> AsyncFunction:
    """Return a new async function of two positional arguments and one by name."""

    async def call(_one: int = 0, _two: str = "", three: int = ANSWER) -> int:
        return ANSWER if three else 0

    return own_code(call)


def failing() -> Callable[[], int]:
    """Return a new sync function that raises ConnectionError."""

    def call() -> int:
        raise ConnectionError

    return own_code(call)


def afailing() -> AsyncFunction:
    """Return a new async function that raises ConnectionError."""

    async def call() -> int:
        raise ConnectionError

    return own_code(call)


def sync_wrapper(f: Callable[..., int]) -> Callable[..., int]:
    """Return the empty sync wrapper: what decorating costs when the decorator does nothing."""

    def w(*a: Any, **k: Any) -> int:
        return f(*a, **k)

    return own_code(w)


def async_wrapper(f: AsyncFunction) -> AsyncFunction:
    """Return the empty async wrapper W."""

    async def w(*a: Any, **k: Any) -> int:
        return await f(*a, **k)

    return own_code(w)


async def check_answer(guarded: Callable[[], int]) -> None:
    """Raise unless the guarded sync function returns what its callee returns."""
    if (answer := guarded()) != ANSWER:
        raise Unavailable(f"returned {answer!r} instead of the function's result")


async def check_async_answer(guarded: AsyncFunction) -> None:
    """Raise unless the guarded async function returns what its callee returns."""
    if (answer := await guarded()) != ANSWER:
        raise Unavailable(f"returned {answer!r} instead of the function's result")


async def check_taken(take: Callable[[], Any]) -> None:
    """Raise unless a token can be taken twice."""
    if not (take() and take()):
        raise Unavailable("rejected a token that was there")


async def check_callable(function: Callable[[], Any]) -> None:
    """Raise if a call raises."""
    function()


async def check_quantile(quantile: Callable[[float], float]) -> None:
    """Raise unless the p99 of `latencies` is near where it must be."""
    seconds = sorted(latencies(QUANTILE_OF))
    exact = seconds[int(0.99 * QUANTILE_OF)]
    if not 0.9 * exact < (found := quantile(0.99)) < 1.1 * exact:
        raise Unavailable(f"p99 is {found!r} s instead of {exact!r} s")


@attrs.frozen
class Rejecting:
    """A guarded function that fails, and so trips its breaker, until that rejects with *error*."""

    function: Callable[[], Any]
    error: type[BaseException]
    asynchronous: bool = False

    async def check(self) -> None:
        """Fail until rejected, as in production; raise if that never happens."""
        for _ in range(_FAILURES):
            try:
                result = self.function()
                if self.asynchronous:
                    await result
            except self.error:
                return
            except ConnectionError:
                continue
        raise Unavailable(f"did not reject after {_FAILURES} failures")

    def loop(self) -> Loop:
        """Return the timed loop: rejected, and the rejection caught."""
        return (awaits_rejected if self.asynchronous else calls_rejected)(self.function, self.error)


@attrs.frozen
class UsedUp(Rejecting):
    """A guarded function that is rejected, for as long as *held* is not given back."""

    held: Any = None

    def loop(self) -> Loop:
        """Return the timed loop, which keeps what is held."""
        loop: Any = Rejecting.loop(self)
        loop.held = self.held
        return cast("Loop", loop)


class CrowdedShedder:
    """A load shedder whose queue is full of critical calls: a standard one is rejected."""

    def __init__(self) -> None:
        self._shedder = resilio.load_shed(max_concurrent=1, name=fresh_name())
        self._function = self._shedder(acallee())
        self._waiting: list[asyncio.Future[Any]] = []
        self._held: Any = None

    async def check(self) -> None:
        """Fill the queue; raise if a call is served then."""
        self._held = self._held or self._shedder.acquire()
        with resilio.priority("critical"):
            self._waiting += [asyncio.ensure_future(self._wait()) for _ in range(2 * self._shedder.room)]
        await asyncio.sleep(0.01)
        try:
            await self._function()
        except resilio.OverloadedError:
            return
        raise Unavailable("was served though others are more important")

    async def _wait(self) -> None:
        while True:  # nobody may wait for as long as a measurement takes
            try:
                await self._shedder.aacquire()
            except resilio.OverloadedError:
                await asyncio.sleep(0.01)

    def loop(self) -> Loop:
        """Return the timed loop: rejected, and the rejection caught."""
        return awaits_rejected(self._function, resilio.OverloadedError)


@attrs.frozen
class Trying:
    """A method that calls *function* unless rejected, and returns what came of it instead of raising."""

    try_call: Callable[[Any], Any]
    function: Callable[[], Any]

    async def check(self) -> None:
        """Fail until the outcome is a rejection; raise if that never happens."""
        for _ in range(_FAILURES):
            if self.try_call(self.function).outcome == "rejected":
                return
        raise Unavailable(f"did not reject after {_FAILURES} failures")

    def loop(self) -> Loop:
        """Return the timed loop: rejected, the result dropped."""
        return feeds(self.try_call, [self.function])


@attrs.frozen
class Recording:
    """A histogram's record function, and values in the unit that it takes."""

    record: Callable[[Any], Any]
    values: Sequence[Any]


async def check_recording(recording: Recording) -> None:
    """Raise unless a value can be recorded."""
    recording.record(recording.values[0])


def latencies(n: int, seed: int = 7) -> list[float]:
    """Return *n* latencies in seconds: log-normal around 20 ms, with the tail of a real service up to seconds."""
    draw = random.Random(seed).lognormvariate
    return [draw(-3.9, 0.9) for _ in range(n)]
