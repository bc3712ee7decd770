"""tenacity: retries as stop, wait and retry conditions; and the stack that people assemble around it."""

from __future__ import annotations

import asyncio
from typing import Any

from tenacity import retry as tenacity_retry
from tenacity import retry_if_exception_type, stop_after_attempt, wait_random_exponential

DISTRIBUTION = "tenacity"
NOTES = {
    "retried": "given a sleep that returns at once: no pass of the event loop",
    "whole_stack": "assembled: tenacity, AsyncLimiter, circuitbreaker, asyncio.Semaphore, asyncio.timeout",
}
CLOCK = {**dict.fromkeys(("retry", "sync_retry", "retried"), "monotonic"), "whole_stack": "monotonic, loop.time"}


def retry(f: Any) -> Any:
    condition = retry_if_exception_type(ConnectionError)
    return tenacity_retry(stop=stop_after_attempt(3), wait=wait_random_exponential(), retry=condition, reraise=True)(f)


sync_retry = retry


async def _at_once(_seconds: float) -> None:
    return


def retried(f: Any) -> Any:
    condition = retry_if_exception_type(ConnectionError)
    return tenacity_retry(stop=stop_after_attempt(2), retry=condition, sleep=_at_once, reraise=True)(f)


def whole_stack(f: Any) -> Any:
    from aiolimiter import AsyncLimiter
    from circuitbreaker import circuit

    limiter, semaphore = AsyncLimiter(10**9, 1), asyncio.Semaphore(100)

    @circuit(failure_threshold=5, recovery_timeout=600)
    async def guarded() -> Any:
        async with semaphore, asyncio.timeout(30):
            return await f()

    @retry
    async def limited() -> Any:
        async with limiter:
            return await guarded()

    async def whole() -> Any:
        try:
            return await limited()
        except ConnectionError:
            return 0

    return whole
