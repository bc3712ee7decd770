"""
The ledger's invariant for streams: however a guarded generator is read, broken off, cancelled or timed out, and
whatever its stages wait for and try again, its segments add up to its time, from the first item asked for to its end.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from time_ledger.adding_up import SILENCED, Book, Count, check_counted, storm, told

import resilio
from resilio import phase
from resilio._native import core
from resilio.testing import VirtualTime, virtual_time
from storm.tactics import ms
from storm.world import CalleeError, Plan, Stack, World

pytestmark = SILENCED

WAITS = (0.002, 0.01, 0.05, 10.0)
CUTS = ("none",) * 3 + ("cancel", "break_off", "break_off")
PER_WORLD = 200


def elsewhere(plan: Plan) -> list[str]:
    """Give items in place of a stream that has failed."""
    return ["else", "where"]


class Streams:
    """One world's streams, each checked as it ends."""

    def __init__(self, world: World, vt: VirtualTime) -> None:
        self.world = world
        self.vt = vt
        self.book = Book()
        self.layers: list[Any] = []
        self.guards: dict[Stack, Any] = {}

    def guarded(self, stack: Stack, fn: Any) -> Any:
        """Put a stack's gates and retries, clocks and a fallback around a generator function, in some order."""
        if stack not in self.guards:
            rng = random.Random(self.world.seed + len(self.guards))
            layers = list(stack.streams)
            for one in self.strategies(rng):
                layers.insert(rng.randint(0, len(layers)), one)
            for layer in reversed(layers):
                fn = layer(fn)
            self.layers += layers
            self.guards[stack] = fn
        return self.guards[stack]

    def strategies(self, rng: random.Random) -> Iterator[Any]:
        """Yield what else there is around streams, perhaps nothing."""
        if rng.random() < 0.5:
            yield resilio.retry(on=Exception, attempts=3, backoff=ms(rng, 0, 3), budget=None)
        if rng.random() < 0.5:
            yield resilio.fallback(elsewhere, on=CalleeError, memory=0.002)

    async def run(self, calls: int) -> None:
        """Read the streams, some of which are cancelled or left early, and wait for their ends."""
        async with anyio.create_task_group() as group:
            for plan in self.world.plans(calls, ("stream",), CUTS):
                group.start_soon(self.start, plan)
        await anyio.sleep(100)
        self.book.close()

    async def start(self, plan: Plan) -> None:
        await anyio.sleep(plan.at)
        with anyio.CancelScope() as scope:
            if plan.cut == "cancel":
                scope.deadline = anyio.current_time() + plan.cut_after
            await self.checked(plan)

    async def checked(self, plan: Plan) -> None:
        token = told.set(box := [])
        began, raised = self.vt.now, list[BaseException]()
        try:
            await self.read(plan, raised)
        except (CalleeError, Exception):
            assert raised
        finally:
            wall = self.vt.now - began
            told.reset(token)
            self.book.enter(plan, box, raised[0] if raised else None, wall)

    async def read(self, plan: Plan, raised: list[BaseException]) -> None:
        """Read a stream, slowly or not, to its end or not; note what the stream itself has raised."""
        async with aclosing(self.guarded(plan.stack, self.items)(plan)) as items:
            while True:
                try:
                    await anext(items)
                except StopAsyncIteration:
                    return
                except BaseException as error:
                    raised.append(error)
                    raise
                if plan.cut == "break_off" and plan.number % 2:
                    return
                await anyio.sleep(plan.cut_after if plan.number % 4 == 0 else 0)

    async def items(self, plan: Plan) -> AsyncIterator[int]:
        """Connect, wait, give three items; fail before the first, between two, or clean up slowly."""
        if plan.number % 3 == 0:
            phase("connect")
        await anyio.sleep(plan.lasts / 2)
        if plan.number % 3 == 0:
            phase("first_byte")
        await anyio.sleep(plan.lasts / 2)
        if plan.business in ("raise", "sleep_raise", "nested") and random.random() < 0.7:
            raise CalleeError(plan.business)
        try:
            for number in range(3):
                yield number
                await anyio.sleep(plan.lasts)
        finally:
            if plan.business == "cleanup":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.003)
        if plan.business == "reject":
            raise CalleeError(plan.business)


class ClockedStreams(Streams):
    """The same with clocks for the first item and the pauses, which only async streams can have."""

    def strategies(self, rng: random.Random) -> Iterator[Any]:
        yield from super().strategies(rng)
        if rng.random() < 0.6:
            yield resilio.timeout(first=ms(rng, 1, 12), idle=ms(rng, 1, 12))
        if rng.random() < 0.3:
            yield resilio.keyed(lambda: resilio.circuit_breaker(open_for=0.005), key=lambda plan: plan.number % 5)


def run_world(seed: int, backend: str) -> Count:
    with virtual_time(patience=10) as vt:
        streams = ClockedStreams(World(seed, WAITS, "tasks"), vt)
        vt.run(streams.run, PER_WORLD, backend=backend)
        check_counted(streams.layers, streams.book.count, PER_WORLD)
    return streams.book.count


SEGMENTS = set(core.SEGMENTS) - {"own", "hedge"}
"""Streams have no copies; what they do between two segments takes no virtual time."""


@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_segments_of_streams_add_up(backend: str) -> None:
    """Of a thousand random streams each adds up, whatever has become of it."""
    total = storm(backend, 1000, PER_WORLD, lambda seed: run_world(seed, backend))
    assert {"attempt", "connect", "first_byte", "body"} <= set(total.segments)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("streams", [5_000, pytest.param(50_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_segments_of_many_streams_add_up(backend: str, streams: int) -> None:
    """Ten or a hundred thousand on both kinds of loops together, and every segment of streams is among them."""
    total = storm(backend, streams, PER_WORLD, lambda seed: run_world(seed, backend))
    assert set(total.segments) >= SEGMENTS
