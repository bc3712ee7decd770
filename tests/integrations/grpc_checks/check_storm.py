"""Many streams of grpc.aio that end as they should not: no permit stays out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from grpc import aio
from servers.grpc_service import Served

import resilio
from resilio.integrations.grpc import interceptors

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]  # what is dropped has to be collected

WAYS = 6


async def _requests() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.sleep(20)


async def _end(channel: Any, how: int) -> None:
    """End a stream as applications do, one way of six."""
    stream = channel.unary_stream("/s/hangs_stream")
    if how == 0:  # broken off
        call = stream(b"")
        async for _ in call:
            break
        call.cancel()
    elif how == 1:  # abandoned with nothing read
        await stream(b"").wait_for_connection()
    elif how == 2:  # abandoned in the middle, both ways
        both = channel.stream_stream("/s/echoes")(_requests())
        async for _ in both:
            break
    elif how == 3:  # cancelled
        task = asyncio.ensure_future(_read(stream(b"")))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == 4:  # timed out
        with pytest.raises(aio.AioRpcError):
            await _read(stream(b"", timeout=0.002))
    else:  # cut by the server
        with pytest.raises(aio.AioRpcError):
            await _read(channel.unary_stream("/s/dies")(b"UNAVAILABLE"))


async def _read(call: Any) -> None:
    async for _ in call:
        pass


@pytest.mark.parametrize(
    "streams",
    [pytest.param(240), pytest.param(3_000, marks=pytest.mark.slow), pytest.param(20_000, marks=pytest.mark.soak)],
)
async def test_a_storm_of_streams_leaves_no_permit_out(served: Served, streams: int) -> None:
    """Broken off, abandoned, cancelled, timed out and cut: after a collection nothing is held, each drop is counted."""
    policy = resilio.pipeline(resilio.circuit_breaker(enforce=False), resilio.bulkhead(1000))

    async def worker(channel: Any, numbers: Iterator[int]) -> None:
        for number in numbers:
            await _end(channel, number % WAYS)
            if number % 100 == 0:
                gc.collect()

    async with served.channel(interceptors(policy)) as channel:
        numbers = iter(range(streams))
        await asyncio.gather(*(worker(channel, numbers) for _ in range(10)))
        for _ in range(5):
            gc.collect()
            await asyncio.sleep(0.01)
        found = policy.snapshot()
        assert (found.calls, found.inflight) == (streams, 0)
        assert [part.inflight for part in found.parts] == [0, 0]
        dropped = sum(number % WAYS in (1, 2) for number in range(streams))
        cancelled = sum(number % WAYS == 3 for number in range(streams))  # one may be dropped before it has ended
        assert dropped <= found.abandoned <= dropped + cancelled
