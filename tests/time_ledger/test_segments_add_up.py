"""
The ledger's invariant: whatever stack a call goes through and however it is cut short, its segments add up to its wall
time, to the microsecond; and what policies count is what the calls have taken, each call once.

Each world is random policies in random stacks (tests/storm) and some hundred calls with random waits, failures and
cancellations in virtual time. RESILIO_SEED replays from one world on.
"""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from time_ledger.adding_up import SILENCED, Book, Count, check_counted, storm, told

from resilio import phase
from resilio._native import core
from resilio.testing import VirtualTime, virtual_time
from storm.world import CalleeError, Plan, Stack, World

pytestmark = SILENCED

WAITS = (0.002, 0.01, 0.05, 10.0)
FORMS = ("guard", "guard", "acall", "try_acall")
CUTS = ("none",) * 3 + ("cancel",) * 2
PER_WORLD = 500


class Worldly:
    """One world's calls, each checked as it ends."""

    def __init__(self, world: World, vt: VirtualTime) -> None:
        self.world = world
        self.vt = vt
        self.book = Book()
        self.guards: dict[Stack, Any] = {}

    async def run(self, calls: int) -> None:
        """Make the calls, some of which are cancelled, and wait for their ends."""
        async with anyio.create_task_group() as group:
            for plan in self.world.plans(calls, FORMS, CUTS):
                group.start_soon(self.start, plan)
        await anyio.sleep(100)  # losers of races end
        self.book.close()

    async def start(self, plan: Plan) -> None:
        await anyio.sleep(plan.at)
        with anyio.CancelScope() as scope:
            if plan.cut == "cancel":
                scope.deadline = anyio.current_time() + plan.cut_after
            await self.checked(plan, plan.stack, plan.form)

    async def checked(self, plan: Plan, stack: Stack, form: str) -> None:
        token = told.set(box := [])
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
            told.reset(token)
            self.book.enter(plan, box, error, wall)

    async def called(self, plan: Plan, stack: Stack, form: str) -> None:
        if stack not in self.guards:
            self.guards[stack] = stack.guard(self.business)
        if form == "guard":
            await self.guards[stack](plan)
        elif form == "acall":
            await stack.whole.acall(self.business, plan)
        else:
            (await stack.whole.try_acall(self.business, plan)).unwrap()

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


def run_world(seed: int, backend: str) -> Count:
    with virtual_time(patience=10) as vt:
        world = World(seed, WAITS, "tasks")
        worldly = Worldly(world, vt)
        vt.run(worldly.run, PER_WORLD, backend=backend)
        policies = [one for stack in world.stacks for one in (*stack.layers, stack.whole)]
        check_counted(policies, worldly.book.count, PER_WORLD)
    return worldly.book.count


@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_segments_add_up_to_the_wall_time(backend: str) -> None:
    """Of a thousand random calls each adds up, whatever has become of it."""
    total = storm(backend, 1000, PER_WORLD, lambda seed: run_world(seed, backend))
    assert {"attempt", "connect", "body"} <= set(total.segments)  # the others need more worlds than two


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize(("backend", "calls"), [("asyncio", 80_000), ("trio", 20_000)])
def test_segments_of_a_hundred_thousand_calls_add_up(backend: str, calls: int) -> None:
    """A hundred thousand on both kinds of loops together, and every segment is among them."""
    total = storm(backend, calls, PER_WORLD, lambda seed: run_world(seed, backend))
    assert set(total.segments) >= set(core.SEGMENTS) - {"own", "first_byte"}
