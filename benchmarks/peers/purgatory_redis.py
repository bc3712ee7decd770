"""purgatory over a Redis: one state for all processes that know it, and trips for each call."""

from __future__ import annotations

import asyncio
from typing import Any

from purgatory import AsyncCircuitBreakerFactory, AsyncRedisUnitOfWork

from benchmarks.micro._loops import own_code
from benchmarks.peers._redis import server

DISTRIBUTION = "purgatory, Redis"
NOTES = {
    "fleet_breaker": "the first process to trip opens it for all; trips for each call; its sync class makes an async "
    "client and fails, so this is the async one, in a loop that stops after each call"
}
CLOCK = {"fleet_breaker": "none"}


def fleet_breaker(f: Any) -> Any:
    loop, work = asyncio.new_event_loop(), AsyncRedisUnitOfWork(server())
    loop.run_until_complete(work.initialize())
    factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=600, uow=work)

    async def call() -> Any:
        async with await factory.get_breaker("circuit"):
            return f()

    def guarded() -> Any:
        return loop.run_until_complete(call())

    return own_code(guarded)
