"""
Scripted faults: functions that are healthy, slow, flaky or down, by a schedule.

Times are those of resilio's clock, so that an outage of minutes takes no real time under virtual time.
"""

from __future__ import annotations

import functools
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar, cast

import attrs

from resilio import _backends
from resilio._native import clock
from resilio._options import validators
from resilio._policy.decorate import kind_of
from resilio._policy.types import Time

__all__ = ["Faults", "Phase", "down", "faults", "flaky", "healthy", "slow"]

F = TypeVar("F", bound=Callable[..., Any])
ErrorFactory = Callable[[str], BaseException]


@attrs.frozen
class Phase:
    """One phase of a function's behaviour; made by :func:`healthy`, :func:`slow`, :func:`flaky` and :func:`down`."""

    label: str
    latency: float = 0.0
    failing: float = 0.0
    error: ErrorFactory = ConnectionError


def healthy(latency: Time = 0.0) -> Phase:
    """Return a phase in which every call succeeds after `latency` seconds, >= 0."""
    return Phase("healthy", _latency(latency))


def slow(latency: Time) -> Phase:
    """Return a phase in which every call succeeds, after `latency` seconds, >= 0."""
    return Phase("slow", _latency(latency))


def flaky(failing: float, *, latency: Time = 0.0, error: ErrorFactory = ConnectionError) -> Phase:
    """
    Return a phase in which a share of the calls fails.

    Args:
        failing: The share, 0 to 1.

        latency: Seconds that every call takes, >= 0.

        error: An exception class, or a function that makes an exception from a text.
    """
    share = validators.fraction("failing", failing, zero_ok=True)
    return Phase("flaky", _latency(latency), share, _error(error))


def down(*, latency: Time = 0.0, error: ErrorFactory = ConnectionError) -> Phase:
    """
    Return a phase in which every call fails.

    Args:
        latency: Seconds that a failing call takes, >= 0.

        error: An exception class, or a function that makes an exception from a text.
    """
    return Phase("down", _latency(latency), 1.0, _error(error))


class Faults:
    """
    A schedule of phases, used as a decorator; its time begins when it is made.

    Attributes:
        calls: Number of calls in each phase, by its label.
    """

    def __init__(self, starts: list[float], phases: list[Phase], seed: int) -> None:
        self._starts = starts
        self._phases = phases
        self._seed = seed
        self.restart()

    def restart(self) -> None:
        """Restart the schedule, with the same random numbers and no calls counted."""
        self._began_ns = clock.now_ns()
        self._random = random.Random(self._seed)  # noqa: S311 - scripted, not secret
        self.calls: Counter[str] = Counter()

    @property
    def phase(self) -> Phase:
        """The current phase."""
        elapsed = (clock.now_ns() - self._began_ns) / 1e9
        return self._phases[max(0, bisect_right(self._starts, elapsed) - 1)]

    def __call__(self, fn: F) -> F:
        """
        Return `fn` with the faults of the schedule; latency of an async function is awaited, other functions block.

        A generator is slow, or fails, before its first item.

        Raises:
            TypeError: `fn` is not callable.
        """
        inner: Any = fn
        if isinstance(inner, (staticmethod, classmethod)):
            return cast("F", type(inner)(self(inner.__func__)))
        if not callable(inner):
            validators.reject("fn", inner, "a function", TypeError)
        faulty = {
            "async_generator": self._async_generator,
            "coroutine": self._coroutine,
            "generator": self._generator,
            "sync": self._sync,
        }[kind_of(inner)](inner)
        return cast("F", functools.wraps(inner)(faulty))

    def _sync(self, fn: Any) -> Any:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            self._strike()
            return fn(*args, **kwargs)

        return faulty

    def _coroutine(self, fn: Any) -> Any:
        async def faulty(*args: Any, **kwargs: Any) -> Any:
            await self._astrike()
            return await fn(*args, **kwargs)

        return faulty

    def _generator(self, fn: Any) -> Any:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            self._strike()
            return (yield from fn(*args, **kwargs))

        return faulty

    def _async_generator(self, fn: Any) -> Any:
        async def faulty(*args: Any, **kwargs: Any) -> Any:
            await self._astrike()
            async with aclosing(fn(*args, **kwargs)) as items:
                async for item in items:
                    yield item

        return faulty

    def _strike(self) -> None:
        latency, error = self._next()
        if latency:
            _backends.sleep(latency)
        if error is not None:
            raise error

    async def _astrike(self) -> None:
        latency, error = self._next()
        if latency:
            await _backends.asleep(latency)
        if error is not None:
            raise error

    def _next(self) -> tuple[float, BaseException | None]:
        phase = self.phase
        self.calls[phase.label] += 1
        fails = phase.failing > 0 and self._random.random() < phase.failing
        return phase.latency, phase.error(f"scripted fault: {phase.label}") if fails else None


def faults(schedule: Phase | Iterable[tuple[float, Phase]], *, seed: int = 0) -> Faults:
    """
    Return a decorator that makes functions fail and slow down by a schedule.

    Args:
        schedule: Pairs of a start in seconds from now and the phase that begins then, in rising order, the first at 0;
            or a single phase without an end.

        seed: Seed of the random numbers of flaky phases: the same seed gives the same failures.

    Raises:
        TypeError: Neither a phase nor pairs.

        ValueError: No phase, a first start other than 0, or starts that do not rise.
    """
    validators.number("seed", seed)
    if not isinstance(schedule, Iterable | Phase):
        validators.reject("schedule", schedule, "a phase like down(), or pairs like (10, down())", TypeError)
    pairs = [(0.0, schedule)] if isinstance(schedule, Phase) else [_pair(pair) for pair in schedule]
    starts = [start for start, _ in pairs]
    if not pairs or starts[0] != 0 or sorted(set(starts)) != starts:
        validators.reject("schedule", starts, "phases that start at 0 and then at rising times")
    return Faults(starts, [phase for _, phase in pairs], seed)


def _pair(pair: Any) -> tuple[float, Phase]:
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[1], Phase):
        validators.reject("schedule", pair, "pairs of seconds and a phase like (10, down())", TypeError)
    return validators.seconds("schedule", pair[0], zero_ok=True), pair[1]


def _latency(value: Time) -> float:
    seconds: float = validators.seconds("latency", value, zero_ok=True)
    return seconds


def _error(value: Any) -> ErrorFactory:
    if not callable(value):
        validators.reject("error", value, "an exception class, or a function from a text to an exception", TypeError)
    return cast("ErrorFactory", value)
