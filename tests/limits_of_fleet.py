"""Rate limits of a fleet on the virtual clock: hosts with one store, and what one ideal bucket would have admitted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from resilio._policies.rate_limit.policy import RateLimit, RateLimitConfig
from resilio.sharing import Answer, Ask, Fleet, MemoryEngine, StoreProblem
from resilio.sharing._fleet.engines import StoreError
from resilio.testing import VirtualTime

__all__ = ["Bucket", "Host", "Wire", "hosts", "play"]

GRID = 0.005
"""Seconds between two looks at who is due."""


class Bucket:
    """One token bucket, exact enough for a test."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, burst, now

    def take(self, now: float, *, force: bool = False) -> bool:
        """Take a token if there is one, or in any case."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 and not force:
            return False
        self.tokens -= 1
        return True


class Wire:
    """The way of one host to the store, on which asks and answers are lost."""

    def __init__(self, store: MemoryEngine, seed: int = 0) -> None:
        self.store = store
        self.is_cut = False
        self.loss = 0.0
        self._draw = random.Random(seed)

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        """Exchange, or lose the asks, or the answers."""
        if self.is_cut or self._draw.random() < self.loss / 2:
            raise StoreError("the asks are lost")
        answers = self.store.exchange(asks, timeout)
        if self._draw.random() < self.loss / 2:
            raise StoreError("the answers are lost")
        return answers


class Host:
    """A process with a fleet and a limit of its own."""

    def __init__(self, store: MemoryEngine, number: int, rates: tuple[Any, ...], options: dict[str, Any]) -> None:
        fleet_options = {key: options.pop(key) for key in ("peers", "tick") if key in options}
        self.wire = Wire(store, number)
        self.fleet = Fleet("shop", self.wire, is_stepped=True, **fleet_options)
        self.limit = RateLimit(RateLimitConfig(rates=rates, scope=self.fleet, **options), "orders")

    def tries(self, calls: int) -> int:
        """Return how many of this number of calls are admitted now."""
        return sum(bool(self.limit.try_acquire()) for _ in range(calls))


def hosts(n: int, *rates: Any, store: MemoryEngine | None = None, **options: Any) -> list[Host]:
    """Return this number of hosts that share a limit, in virtual time."""
    kept = MemoryEngine() if store is None else store
    return [Host(kept, i, rates, dict(options)) for i in range(n)]


def play(
    vt: VirtualTime, fleet: Sequence[Host], loads: Sequence[float | Callable[[float], float]], seconds: float
) -> list[tuple[float, int]]:
    """
    Let each host receive calls at random times; return when and where they were admitted.

    Args:
        vt: The virtual time.

        fleet: The hosts.

        loads: Calls a second of each, or a function of the seconds since the beginning.

        seconds: How long.
    """
    draw, began, admitted = random.Random(1), vt.now, []
    while vt.now < began + seconds - GRID / 2:
        for i, (one, load) in enumerate(zip(fleet, loads, strict=True)):
            one.fleet.step()
            mean = (load(vt.now - began) if callable(load) else load) * GRID
            calls = sum(draw.random() < mean / 8 for _ in range(8)) if mean < 4 else round(mean)
            admitted += [(vt.now, i)] * one.tries(calls)
        vt.advance(GRID)
    return admitted
