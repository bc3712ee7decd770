"""The clocks of streams that somebody else has made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from resilio import CallTimeoutError, StreamTimeout, stream_timeout
from resilio.testing import VirtualTime

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Source:
    """A stream as SDKs have them: items after so many seconds each, and a method to close it."""

    def __init__(self, *items: tuple[float, Any]) -> None:
        self.items = items
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[Any]:
        for seconds, item in self.items:
            await anyio.sleep(seconds)
            yield item

    async def close(self) -> None:
        self.closed += 1


async def read(stream: StreamTimeout[Any], into: list[Any]) -> None:
    async for item in stream:
        into.append(item)  # noqa: PERF401 - what came before an error is looked at


@BACKENDS
def test_a_stream_in_time_is_given_as_it_is(vt: VirtualTime, backend: str) -> None:
    """Nothing is added, left out or delayed."""
    seen: list[str] = []
    vt.run(lambda: read(stream_timeout(Source((1, "a"), (1, "b")), first=2, idle=2, total=3), seen), backend=backend)
    assert seen == ["a", "b"]


@BACKENDS
@pytest.mark.parametrize(
    ("items", "clocks", "which", "at", "seen"),
    [
        ([(5, "a")], {"first": 2.0, "idle": 1.0}, "first", 2.0, []),
        ([(1, "a"), (5, "b")], {"first": 2.0, "idle": 3.0}, "idle", 4.0, ["a"]),
        ([(1, "a"), (5, "b")], {"idle": 3.0, "total": 3.5}, "total", 3.5, ["a"]),
        ([(1, "ping"), (1, "ping"), (1, "a")], {"first": 2.5}, "first", 2.5, ["ping", "ping"]),
        ([(1, "a"), (1, "ping"), (1, "ping"), (1, "b")], {"idle": 2.5}, "idle", 3.5, ["a", "ping", "ping"]),
    ],
)
def test_the_error_says_which_clock_it_was(
    vt: VirtualTime, backend: str, items: Any, clocks: dict[str, float], which: str, at: float, seen: list[str]
) -> None:
    """Pings are given and are no progress; the stream is closed when a clock is up."""
    source, got = Source(*items), []
    begun = vt.now

    async def main() -> float:
        with pytest.raises(CallTimeoutError) as caught:
            await read(stream_timeout(source, counts=lambda item: item != "ping", **clocks), got)
        assert (caught.value.clock, caught.value.limit) == (which, clocks[which])
        return vt.now - begun

    assert vt.run(main, backend=backend) == pytest.approx(at, abs=0.01)
    assert got == seen
    assert source.closed == 1


@BACKENDS
def test_the_consumers_time_does_not_count(vt: VirtualTime, backend: str) -> None:
    """Who takes long over an item is not told that the stream is late."""
    seen = []

    async def main() -> None:
        async with stream_timeout(Source((1, "a"), (1, "b"), (1, "c")), first=1.5, idle=1.5, total=3.5) as stream:
            async for item in stream:
                seen.append(item)
                await anyio.sleep(10)

    vt.run(main, backend=backend)
    assert seen == ["a", "b", "c"]


@BACKENDS
def test_a_cancellation_from_outside_passes(vt: VirtualTime, backend: str) -> None:
    """The task's own cancellation is not turned into a timeout, and the block closes the stream."""
    source = Source((5, "a"))

    async def main() -> bool:
        with anyio.move_on_after(1) as scope:
            async with stream_timeout(source, first=2):
                await anyio.sleep_forever()
        with anyio.move_on_after(1) as inner:
            await read(stream_timeout(source, first=2), [])
        return scope.cancelled_caught and inner.cancelled_caught

    assert vt.run(main, backend=backend)


@BACKENDS
def test_a_stream_of_ones_own_is_closed_too(vt: VirtualTime, backend: str) -> None:
    """`aclose()` of an async generator; one that fails to close does not hide the clock."""

    async def words() -> AsyncIterator[str]:
        try:
            yield "a"
            await anyio.sleep(10)
        finally:
            ended.append(True)

    class Stubborn(Source):
        async def close(self) -> None:
            raise OSError("no")

    ended: list[bool] = []

    async def main() -> None:
        for stream in (words(), Stubborn((9, "a"))):
            with pytest.raises(CallTimeoutError):
                await read(stream_timeout(stream, first=1, idle=1), [])

    vt.run(main, backend=backend)
    assert ended == [True]


def test_what_has_nothing_to_close_needs_nothing(vt: VirtualTime) -> None:
    """Any async iterable will do; a `close` that is not async is called as it is."""

    class Plain:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

    class Closing(Plain):
        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []

    async def main() -> None:
        for source in (Plain(), Closing()):
            async with stream_timeout(source, total=1) as stream:
                assert [item async for item in stream] == []

    vt.run(main)
    assert closed == [True]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"stream": [], "first": 1}, "stream must be an async iterable"),
        ({}, "first must be seconds, unless"),
        ({"first": -1}, "first must be"),
        ({"idle": "soon"}, "idle must be"),
        ({"total": 1, "counts": 3}, "counts must be a function"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], match: str) -> None:
    """Which option, and what was given."""
    given = {"stream": Source(), **options}
    with pytest.raises((TypeError, ValueError), match=match):
        stream_timeout(given.pop("stream"), **given)
