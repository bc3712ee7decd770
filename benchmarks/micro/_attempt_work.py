"""The work of the comparisons of attempts: callees that suspend or fail first, and the library's names."""

from __future__ import annotations

import asyncio
from itertools import repeat
from time import thread_time_ns
from typing import Any

import resilio
from benchmarks.micro._comparison import Unavailable
from benchmarks.micro._loops import Loop, own_code
from benchmarks.micro._work import ANSWER, AsyncFunction
from resilio._native.core import phase

__all__ = ["awaits_and_passes", "awaits_twice", "failing_first", "public", "suspending", "telling_a_phase"]


def public(name: str) -> Any:
    """Return the library's public *name*, or raise `Unavailable` that says that it has none."""
    try:
        return getattr(resilio, name)
    except AttributeError:
        raise Unavailable(f"this resilio has no {name}") from None


def suspending() -> AsyncFunction:
    """Return a new async function that suspends once: the event loop passes, and it goes on."""

    async def call() -> int:
        await asyncio.sleep(0)
        return ANSWER

    return own_code(call)


def telling_a_phase() -> AsyncFunction:
    """Return a new async function that tells what it is at, as an HTTP client's integration does."""

    async def call() -> int:
        phase("body")
        return ANSWER

    return own_code(call)


def failing_first() -> AsyncFunction:
    """Return a new async function that raises ConnectionError at every other call, beginning with the first."""
    fails = False

    async def call() -> int:
        nonlocal fails
        fails = not fails
        if fails:
            raise ConnectionError
        return ANSWER

    return own_code(call)


def awaits_twice(function: AsyncFunction) -> Loop:
    """Await a call that raises ConnectionError, and another: a retry that is written out."""

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            try:
                await function()
            except ConnectionError:
                await function()
        return thread_time_ns() - start

    return own_code(loop)


def awaits_and_passes(function: AsyncFunction) -> Loop:
    """
    Await calls of *function*, and then let the event loop pass once, within the time that is taken.

    A timer that is cancelled stays in asyncio's heap until the loop clears it away: that is part of its price, and not
    to be paid by whoever runs next.
    """

    async def loop(n: int) -> int:
        steps = repeat(None, n)
        start = thread_time_ns()
        for _ in steps:
            await function()
        await asyncio.sleep(0)
        return thread_time_ns() - start

    return own_code(loop)
