"""Streams that end in every way there is, many at a time: nothing is held afterwards, what was dropped is counted."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import suppress
from typing import Any

import pytest
from servers.misbehaving import Misbehaving
from servers.models import Behaviour, Exchange, Wire, cuts, fails, provide, streams
from servers.sdks import Sdk

from resilio import bulkhead, pipeline, presets, rate_limit, retry, timeout
from resilio.integrations.llm import guard_of, token_rate
from resilio.testing import assert_no_leaks

pytestmark = [pytest.mark.slow, pytest.mark.untraced]

STREAMS = 800
AT_A_TIME = 20
PROVIDER = [
    streams("a", "b", "c"),
    streams("a", "b", "c", end="hang"),
    streams("a", "b", end="die"),
    streams("a", "b", end="error"),
    streams("a", "b", end="close"),
    streams(before=("die",)),
    streams(before=("hang",)),
    fails(503),
    cuts,
]


def misbehaves(chance: random.Random) -> Behaviour:
    """A provider that does something else each time."""

    async def behave(exchange: Exchange, wire: Wire) -> None:
        await chance.choice(PROVIDER)(exchange, wire)

    return behave


class Callers:
    """Callers who do something else each time, too."""

    def __init__(self, sdk: Sdk, client: Any, chance: random.Random) -> None:
        self.sdk = sdk
        self.client = client
        self.chance = chance
        self.dropped = 0
        self.left = STREAMS

    async def work(self) -> None:
        """Begin streams until all are done."""
        while self.left:
            self.left -= 1
            way = self.chance.choice([self.read, self.close, self.drop, self.cancel])
            with suppress(Exception):
                await way()

    async def read(self) -> None:
        """To the end, if there is one."""
        async for _ in await self.sdk.stream(self.client):
            pass

    async def close(self) -> None:
        """After an event."""
        async with await self.sdk.stream(self.client) as stream:
            async for _ in stream:
                break

    async def drop(self) -> None:
        """Without having looked at it."""
        await self.sdk.stream(self.client)
        self.dropped += 1

    async def cancel(self) -> None:
        """By a task that is cancelled somewhere."""
        task = asyncio.create_task(self.read())
        await asyncio.sleep(self.chance.random() * 0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_storm_of_streams_leaks_nothing(sdk: Sdk, server: Misbehaving) -> None:
    """After the storm, and a collection, no permit is held and every stream that was dropped is counted."""
    chance = random.Random(5)
    provide(server, sdk.wire, misbehaves(chance))
    one = bulkhead(AT_A_TIME * 50)
    policy = pipeline(
        retry(on=presets.model.momentary, attempts=2, backoff=0.0, budget=None),
        rate_limit("100000/s", token_rate("100000000/s")),
        one,
        timeout(first=0.2, idle=0.2),
    )
    async with sdk.client(server, policy) as client:
        callers = Callers(sdk, client, chance)
        await asyncio.gather(*(callers.work() for _ in range(AT_A_TIME)))
        gc.collect()
        for _ in range(100_000):
            await asyncio.sleep(0)
            if not one.snapshot().inflight:
                break
        guard = guard_of(client)
        assert guard is not None
        assert one.snapshot().inflight == 0
        assert callers.dropped > STREAMS / 20
        # What was whole in one piece had no permit any more when it was dropped.
        assert one.snapshot().abandoned == guard.abandoned <= callers.dropped
        assert guard.abandoned > callers.dropped / 2
    assert_no_leaks(policy)
