"""aiolimiter: a leaky bucket as an async context manager; and the stack that people assemble around it."""

from __future__ import annotations

import asyncio
from typing import Any

from aiolimiter import AsyncLimiter

DISTRIBUTION = "aiolimiter"
CLOCK = {"async_limiter": "loop.time", "async_stack": "loop.time"}
NOTES = {"async_stack": "assembled: AsyncLimiter, asyncio.Semaphore, circuitbreaker"}
ABSENT = {"try_acquire": "can only be awaited"}
_PLENTY = 10**9


def async_limiter(f: Any) -> Any:
    limiter = AsyncLimiter(_PLENTY, 1)

    async def limited() -> Any:
        async with limiter:
            return await f()

    return limited


def async_stack(f: Any) -> Any:
    from circuitbreaker import circuit

    limiter, semaphore = AsyncLimiter(_PLENTY, 1), asyncio.Semaphore(100)

    @circuit(failure_threshold=5, recovery_timeout=600)
    async def guarded() -> Any:
        async with semaphore:
            return await f()

    async def limited() -> Any:
        async with limiter:
            return await guarded()

    return limited
