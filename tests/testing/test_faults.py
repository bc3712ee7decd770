"""Scripted faults: healthy, slow, flaky and down by a schedule, on the virtual clock."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilio import timeout
from resilio.testing import VirtualTime, down, faults, flaky, healthy, slow

SCHEDULE = [(0, healthy()), (10, slow(2.0)), (20, down(error=OSError)), (30, healthy(0.5))]


@pytest.mark.anyio
async def test_an_async_function_follows_the_schedule(vt: VirtualTime) -> None:
    """Each phase begins at its time, delays by its latency and fails by its kind."""
    script = faults(SCHEDULE)

    @script
    async def fetch(value: int) -> int:
        return value

    assert (await fetch(1), vt.now) == (1, 0.0)
    await anyio.sleep(10)
    assert (await fetch(2), vt.now) == (2, 12.0)
    await anyio.sleep(8)
    with pytest.raises(OSError, match="scripted fault: down"):
        await fetch(3)
    assert vt.now == 20.0
    await anyio.sleep(10)
    assert (await fetch(4), vt.now) == (4, 30.5)
    assert script.calls == {"healthy": 2, "slow": 1, "down": 1}


def test_a_sync_function_follows_the_schedule(vt: VirtualTime) -> None:
    """A blocking function's latency passes in virtual time too."""
    fetch = faults(SCHEDULE)(lambda: "ok")
    vt.advance(10)
    assert (fetch(), vt.now) == ("ok", 12.0)
    vt.advance(8)
    with pytest.raises(OSError, match="down"):
        fetch()


def test_a_flaky_phase_fails_its_share_and_repeats_with_its_seed(vt: VirtualTime) -> None:
    """The share is about what was asked for; the same seed gives the same failures, `restart` too."""

    def outcomes(seed: int) -> list[bool]:
        fetch = faults(flaky(0.3), seed=seed)(lambda: None)
        return [_fails(fetch) for _ in range(1000)]

    first = outcomes(7)
    assert 240 < sum(first) < 360
    assert outcomes(7) == first
    assert outcomes(8) != first
    script = faults(flaky(0.5))
    fetch = script(lambda: None)
    before = [_fails(fetch) for _ in range(50)]
    script.restart()
    assert [_fails(fetch) for _ in range(50)] == before
    assert script.calls == {"flaky": 50}


def _fails(fetch: Callable[[], object]) -> bool:
    try:
        fetch()
    except ConnectionError:
        return True
    return False


def test_every_kind_of_function_stays_of_its_kind(vt: VirtualTime) -> None:
    """
    Streams and callable objects too, so that policies around them see what they are.

    They were taken for plain functions: a stream could not be guarded as one, and its latency blocked the event loop.
    """
    script = faults([(0, healthy(0.5)), (10, down())])

    class Client:
        async def __call__(self) -> int:
            return 1

        @script
        async def stream(self) -> AsyncIterator[int]:
            for item in (1, 2):
                yield item

        @script
        @classmethod
        async def ping(cls) -> type:
            return cls

    @script
    def items() -> Iterator[int]:
        yield from (1, 2)

    client, guarded = Client(), timeout(first=1.0)(Client.stream)
    call = script(client)

    async def healthy_service() -> list[Any]:
        meanwhile = asyncio.ensure_future(asyncio.sleep(0.4, vt.now))
        found = [await call(), [item async for item in guarded(client)], await client.ping()]
        return [*found, await meanwhile, vt.now]

    async def broken_service() -> None:
        for stream in (client.stream(), guarded(client)):
            with pytest.raises(ConnectionError):
                await anext(stream)
        with pytest.raises(ConnectionError):
            await call()

    assert inspect.isasyncgenfunction(Client.stream)
    assert inspect.isgeneratorfunction(items)
    assert vt.run(healthy_service) == [1, [1, 2], Client, 0.0, 1.5]
    assert (list(items()), vt.now) == ([1, 2], 2.0)
    vt.advance(10)
    vt.run(broken_service)
    with pytest.raises(ConnectionError):
        next(items())
    assert script.calls == {"healthy": 4, "down": 4}


def test_names_and_signatures_survive() -> None:
    """The function keeps its name."""

    @faults(healthy())
    def fetch() -> None:
        """Fetch."""

    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch.")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: faults([]), ValueError, "schedule must be"),
        (lambda: faults([(1, healthy())]), ValueError, "schedule must be"),
        (lambda: faults([(0, healthy()), (0, down())]), ValueError, "schedule must be"),
        (lambda: faults([(0, healthy()), (-1, down())]), ValueError, "schedule must be"),
        (lambda: faults([(0, "down")]), TypeError, "schedule must be"),  # type: ignore[list-item]
        (lambda: faults(healthy(), seed=math.nan), ValueError, "seed must be"),  # type: ignore[arg-type]
        (lambda: faults(3), TypeError, "schedule must be a phase like"),  # type: ignore[arg-type]
        (lambda: faults(down())(3), TypeError, "fn must be a function"),  # type: ignore[type-var]
        (lambda: slow(-1), ValueError, "latency must be"),
        (lambda: slow(math.inf), ValueError, "latency must be"),
        (lambda: flaky(1.5), ValueError, "failing must be"),
        (lambda: flaky(True), TypeError, "failing must be"),
        (lambda: down(error=3), TypeError, "error must be"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], text: str) -> None:
    """Every parameter rejects what makes no sense, by name."""
    with pytest.raises(error, match=text):
        call()
