"""
The ledger's invariant: whatever stack a call goes through and however it is cut short, its segments add up to its wall
time, to the microsecond; and what policies count is what the calls have taken, each call once.

Each world is random policies in random stacks (tests/storm) and a thousand calls with random waits, failures and
cancellations in virtual time. RESILIO_SEED replays from one world on.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import attrs
import pytest

from resilio import PipelineWarning, Segments, _slow_calls
from resilio._native import core
from resilio._native.core import phase
from resilio.testing import VirtualTime, virtual_time
from storm.world import CalleeError, Plan, Stack, World

pytestmark = pytest.mark.filterwarnings(f"ignore::{PipelineWarning.__module__}.{PipelineWarning.__name__}")

MICROSECOND = 1e-6
WAITS = (0.002, 0.01, 0.05, 10.0)
FORMS = ("guard", "guard", "acall", "attempt")
CUTS = ("none",) * 3 + ("cancel",) * 2
PER_WORLD = 500

_told: ContextVar[list[Segments] | None] = ContextVar("told", default=None)


class Tell(_slow_calls.SlowCalls):
    """Tells every call's ledger where the call was made."""

    def hear(self, gate: core.Gate, segments: Segments, error: BaseException | None) -> None:
        box = _told.get()
        if box is not None:
            box.append(segments)


@pytest.fixture
def all_told() -> Iterator[None]:
    """Have every call that has run tell its ledger."""
    tell = Tell(0.0, None, 1, 30)
    yield
    tell.stop()


@attrs.define
class Count:
    """What was seen of the calls of a world."""

    ends: Counter[str] = attrs.field(factory=Counter)
    walls: float = 0.0
    segments: Counter[str] = attrs.field(factory=Counter)


class Worldly:
    """One world's calls, each checked as it ends."""

    def __init__(self, world: World, vt: VirtualTime) -> None:
        self.world = world
        self.vt = vt
        self.count = Count()
        self.guards: dict[Stack, Any] = {}
        self.wrong: list[Exception] = []

    async def run(self, calls: int) -> None:
        """Make the calls, some of which are cancelled, and wait for their ends."""
        async with anyio.create_task_group() as group:
            for plan in self.world.plans(calls, FORMS, CUTS):
                group.start_soon(self.start, plan)
        await anyio.sleep(100)  # losers of races end
        if self.wrong:
            raise self.wrong[0]

    async def start(self, plan: Plan) -> None:
        await anyio.sleep(plan.at)
        with anyio.CancelScope() as scope:
            if plan.cut == "cancel":
                scope.deadline = anyio.current_time() + plan.cut_after
            await self.checked(plan, plan.stack, plan.form)

    async def checked(self, plan: Plan, stack: Stack, form: str) -> None:
        box: list[Segments] = []
        token = _told.set(box)
        began, error = self.vt.now, None
        try:
            await self.called(plan, stack, form)
        except (CalleeError, Exception) as raised:
            error = raised
        except BaseException as raised:
            error = raised
            raise
        finally:
            wall = self.vt.now - began
            _told.reset(token)
            try:
                self.check(plan, box, error, wall)
            except Exception as wrong:
                self.wrong.append(wrong)

    async def called(self, plan: Plan, stack: Stack, form: str) -> None:
        if stack not in self.guards:
            self.guards[stack] = stack.guard(self.business)
        if form == "guard":
            await self.guards[stack](plan)
        elif form == "acall":
            await stack.whole.acall(self.business, plan)
        else:
            (await stack.whole.attempt(self.business, plan)).unwrap()

    def check(self, plan: Plan, box: list[Segments], error: BaseException | None, wall: float) -> None:
        found = list(box)
        if error is not None:
            found.append(error.resilio_segments)  # type: ignore[attr-defined]
        assert error is not None or box or wall == 0.0, f"nobody told of a call of {wall} s: {plan}"
        for segments in found:
            assert abs(segments.total - wall) <= MICROSECOND, f"{segments!r} in {wall!r} s: {plan}"
        assert len(box) <= 1
        for segments in found[:1]:
            self.count.segments.update({name: 1 for name, value in segments.asdict().items() if value})
        self.count.walls += found[0].total if found else 0.0
        self.count.ends[type(error).__name__] += 1

    async def business(self, plan: Plan) -> str:
        """Sleep, tell phases, raise, clean up slowly, or call through another stack."""
        if plan.number % 3 == 0:
            phase("connect")
        await anyio.sleep(plan.lasts / 2)
        if plan.number % 3 == 0:
            phase("body")
        try:
            await anyio.sleep(plan.lasts / 2)
        finally:
            if plan.business == "cleanup":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.003)
        if plan.business == "nested" and plan.inner is not None:
            await self.checked(attrs.evolve(plan, business="sleep"), plan.inner, "guard")
        if plan.business in ("raise", "sleep_raise"):
            raise CalleeError(plan.business)
        return plan.business


def gates(world: World) -> dict[int, Any]:
    """Return all gates at which calls may have begun."""
    policies = [one for stack in world.stacks for one in (*stack.layers, stack.whole)]
    return {id(policy.gates[0]): policy.gates[0] for policy in policies}


def run_world(seed: int, backend: str) -> Count:
    with virtual_time(patience=10) as vt:
        world = World(seed, WAITS, "tasks")
        worldly = Worldly(world, vt)
        vt.run(worldly.run, PER_WORLD, backend=backend)
        counted = Counter[str]()
        for gate in gates(world).values():
            counted.update(gate.seconds())
    wasted = counted.pop("wasted")
    assert wasted >= 0.0
    assert sum(counted.values()) == pytest.approx(worldly.count.walls, abs=PER_WORLD * MICROSECOND)
    return worldly.count


def storm(calls: int, backend: str) -> Count:
    seed = int(os.environ.get("RESILIO_SEED") or secrets.randbits(32))
    total = Count()
    for at in range(-(-calls // PER_WORLD)):
        try:
            count = run_world(seed + at, backend)
        except BaseException as error:
            error.add_note(f"replay this world with RESILIO_SEED={seed + at}")
            raise
        total.ends.update(count.ends)
        total.segments.update(count.segments)
    print(f"{backend}: {dict(total.ends)} {dict(total.segments)}")
    return total


@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_segments_add_up_to_the_wall_time(backend: str) -> None:
    """Of three thousand random calls each adds up, whatever has become of it."""
    total = storm(3000, backend)
    assert {"attempt", "connect", "body"} <= set(total.segments)  # the others need more worlds than six


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_segments_of_a_hundred_thousand_calls_add_up(backend: str) -> None:
    """A hundred thousand on both kinds of loops together, and every segment is among them."""
    total = storm(50_000, backend)
    assert set(total.segments) >= set(core.SEGMENTS) - {"own", "first_byte"}
