"""
The storm of hedges: stacks of hedges, retries, timeouts and gates whose losers clean up slowly, cut short at random.

After each world no permit, waiter, timer, task or native call is left, no cancellation was swallowed, and what tasks
say of being cancelled is true. RESILIO_SEED replays from one world on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import secrets
import sys
from collections import Counter
from typing import Any

import anyio
import pytest
from measured import measured

import resilio
from resilio import PipelineWarning, current
from resilio._native import core
from resilio.errors import RejectedError
from resilio.testing import assert_no_leaks, virtual_time
from storm.world import keep_out_of_collections

pytestmark = pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.{PipelineWarning.__name__}")

CALLS = 150
WORLDS = 8
EAGER = sys.version_info >= (3, 12)
LOOPS = ["asyncio", pytest.param("eager", marks=pytest.mark.skipif(not EAGER, reason="3.12")), "uvloop", "trio"]


@pytest.fixture(autouse=True)
def unlogged(caplog: pytest.LogCaptureFixture) -> None:
    """Keep no lines of cleanups that raise: with their tracebacks the calls in them would be kept."""
    caplog.set_level(logging.CRITICAL, "resilio")


def natives() -> list[Any]:
    """Return all calls, permits and waiters that there are."""
    kinds = (core.Call, core.Permit, core.Waiter)
    return [thing for thing in gc.get_objects() if type(thing) in kinds and not getattr(thing, "_spare", False)]


class CalleeError(Exception):
    """What a callee raises."""


class World:
    """Policies, a stack of them around one function, and how its calls ended."""

    def __init__(self, seed: int) -> None:
        self.random = rng = random.Random(seed)
        self.ended: Counter[str] = Counter()
        self.inside = 0
        self.before = {id(thing) for thing in natives()}  # what tests before have left
        self.policies = self.make()
        rng.shuffle(self.policies)
        self.guarded = resilio.pipeline(*self.policies)(self.callee)

    def make(self) -> list[Any]:
        """Return policies in no order: at least one hedge, and what it may have around it and inside."""
        rng = self.random
        made: list[Any] = [measured(ms(rng, 1, 6), typical=0.005, saved=10, discard=rng.choice([None, self.discard]))]
        if rng.random() < 0.4:
            made.append(measured([0.001, 0.002], typical=0.005, saved=10))
        if rng.random() < 0.6:
            budget = resilio.RetryBudget(ratio=1.0, cap=100, initial=100)
            backoff = rng.choice([0.0, 0.001])
            made.append(resilio.retry(on=CalleeError, attempts=3, backoff=backoff, budget=budget))
        made += [resilio.timeout(ms(rng, 2, 15)) for _ in range(rng.choice([0, 1, 1, 2]))]
        if rng.random() < 0.3:
            made.append(resilio.deadline(ms(rng, 5, 20)))
        gates = [
            resilio.bulkhead(rng.randint(1, 20), max_queued=10, max_wait=0.01),
            resilio.circuit_breaker(consecutive=5, open_for=0.01),
            resilio.rate_limit("5000/s", burst=20),
        ]
        return made + rng.sample(gates, rng.randint(0, 3))

    async def discard(self, result: object) -> None:
        """Take a moment to close what came too late."""
        await anyio.sleep(0.001)

    async def callee(self, lasts: float, cleanup: float, how: str) -> str:
        """Sleep, clean up for a while, and end as asked."""
        self.inside += 1
        try:
            await anyio.sleep(lasts / (2 if current().hedge else 1))
        except anyio.get_cancelled_exc_class():
            await self.clean_up(cleanup, how)
            if how == "swallow":
                return "swallowed"
            if how == "convert":
                raise CalleeError("converted") from None
            raise
        finally:
            self.inside -= 1
        if how == "raise":
            raise CalleeError("raised")
        return "returned"

    async def clean_up(self, seconds: float, how: str) -> None:
        """Clean up, now and then in a scope that knows its task."""
        if how == "scope":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)
        else:
            await anyio.sleep(seconds)

    def plan(self) -> tuple[float, float, float, str]:
        """Return when a call is cancelled, how long it and its cleanup last, and how it ends."""
        rng = self.random
        hows = ["return"] * 6 + ["raise", "scope", "convert", "swallow"]
        return ms(rng, 0, 20), ms(rng, 0, 12), rng.choice([0.0, 0.0005, 0.004]), rng.choice(hows)

    def count(self, error: BaseException | None) -> None:
        """Count how a call ended, which must be one of the ways that it may."""
        known = (RejectedError, CalleeError, TimeoutError)
        label = next((kind.__name__ for kind in known if isinstance(error, kind)), None)
        assert error is None or label is not None, f"a call ended in {error!r}"
        self.ended[label or "returned"] += 1

    def check(self) -> None:
        """Assert that nothing is left."""
        assert self.inside == 0
        assert_no_leaks(*self.policies)
        left = [thing for thing in natives() if id(thing) not in self.before]
        assert not left, f"{len(left)} native objects are left, the first is {left[0]!r}"


def ms(rng: random.Random, low: int, high: int) -> float:
    """Return whole milliseconds, in seconds, so that things often fall on the same instant."""
    return rng.randint(low, high) / 1000


async def on_asyncio(world: World) -> None:
    """Make the calls in tasks, and cancel many of them."""
    loop = asyncio.get_running_loop()

    async def one(after: float, how: str, *plan: Any) -> None:
        cancelled = []

        def cancel() -> None:
            cancelled.append(task.cancel())

        async def call() -> None:
            try:
                world.count(await raised(world.guarded(*plan, how)))
            finally:
                me = asyncio.current_task()
                assert me is not None
                assert me.cancelling() == sum(cancelled), f"{me.cancelling()} instead of {sum(cancelled)}"

        task = loop.create_task(call())
        for times in range(1 + world.random.randint(0, 1)):
            loop.call_later(after + times / 1000, cancel)
        try:
            await task
        except asyncio.CancelledError:
            world.ended["cancelled"] += 1
        else:
            # A callee that swallows or converts its cancellation swallows that of the caller as well
            assert not any(cancelled) or how in ("swallow", "convert"), f"swallowed: {how}"

    plans = [world.plan() for _ in range(CALLS)]
    async with asyncio.TaskGroup() as group:
        for after, lasts, cleanup, how in plans:
            group.create_task(one(after, how, lasts, cleanup))
            await asyncio.sleep(ms(world.random, 0, 1))
    await asyncio.sleep(50)
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    assert not rest, f"tasks are left: {rest}"


async def raised(awaitable: Any) -> BaseException | None:
    """Return what *awaitable* raises, if it is an Exception."""
    try:
        await awaitable
    except Exception as error:
        return error
    return None


async def on_trio(world: World) -> None:
    """Make the calls in tasks of a nursery, and cancel many of them."""

    async def one(after: float, *plan: Any) -> None:
        with anyio.move_on_after(after) as scope:
            world.count(await raised(world.guarded(*plan)))
        world.ended["cancelled"] += scope.cancelled_caught

    async with anyio.create_task_group() as group:
        for _ in range(CALLS):
            group.start_soon(one, *world.plan())
            await anyio.sleep(ms(world.random, 0, 1))
    await anyio.sleep(50)


def run_world(kind: str, world: World) -> None:
    """Run a world on a loop of that kind, in virtual time."""
    with virtual_time(patience=10) as vt:
        if kind == "trio":
            vt.run(on_trio, world, backend="trio")
        elif kind == "uvloop":
            pytest.importorskip("uvloop")
            from storm.virtual_uvloop import VirtualUvloop

            with asyncio.Runner(loop_factory=lambda: VirtualUvloop(vt)) as runner:
                runner.run(on_asyncio(world))
        else:
            vt.run(eagerly if kind == "eager" else on_asyncio, world)
        world.check()


async def eagerly(world: World) -> None:
    """Make the calls in tasks that begin to run where they are made."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await on_asyncio(world)


def rage(kind: str, worlds: int) -> Counter[str]:
    """Run so many worlds, each with its own seed."""
    given = os.environ.get("RESILIO_SEED")
    seed = int(given) if given else secrets.randbits(32)
    print(f"hedge storm: RESILIO_SEED={seed}")
    keep_out_of_collections()
    total: Counter[str] = Counter()
    for _ in range(worlds):
        world = World(seed)
        try:
            run_world(kind, world)
        except BaseException as error:
            error.add_note(f"replay this world with RESILIO_SEED={seed}: {world.policies}")
            raise
        total += world.ended
        seed += 1
    return total


@pytest.mark.parametrize("kind", LOOPS)
def test_a_breeze_of_hedges_leaves_nothing_behind(kind: str) -> None:
    """A few random worlds, on every Python."""
    ended = rage(kind, WORLDS)
    assert min(ended["returned"], ended["cancelled"]) > 0, ended


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOOPS)
def test_a_storm_of_hedges_leaves_nothing_behind(kind: str) -> None:
    """Thousands of calls on each kind of loop."""
    rage(kind, 4 * WORLDS)
