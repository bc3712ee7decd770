"""A storm on trio: random calls in cancel scopes that are cancelled, time out, or go with their nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from operator import itemgetter
from typing import Any

import trio

import resilio
from resilio import RejectedError, ResilienceError
from storm.world import CalleeError, Plan, World

__all__ = ["CUTS", "FORMS", "run_world"]

FORMS = (
    *("guard",) * 4, *("acall",) * 2, *("try_acall",) * 2, "block", "by_hand", "reserve", "stream", "stepped",
    "deadline", "retrying",
)  # fmt: skip
CUTS = ("cancel",) * 4 + ("none", "cancel_at_once", "deadline", "deadline", "grant", "nursery")


async def run_world(world: World, calls: int) -> None:
    """Make `calls` calls in `world`, wait for their ends, and check that nothing is left."""
    storm = _Storm(world)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for plan in world.plans(calls, FORMS, CUTS):
            nursery.start_soon(storm.start, plan)
        for at, resize in sorted(world.resizes(), key=itemgetter(0)):
            await trio.sleep_until(began + at)
            resize()
    await trio.sleep(1000)  # far beyond every wait and lease


class _Storm:
    def __init__(self, world: World) -> None:
        self.world = world
        self.guards: dict[Any, Any] = {}
        self.parked: list[trio.CancelScope] = []

    async def start(self, plan: Plan) -> None:
        """Make one call in a scope that is cut by the plan, and see how it ends."""
        await trio.sleep(plan.at)
        if plan.cut == "nursery":
            await self.in_a_nursery(plan)
            return
        with trio.CancelScope() as scope:
            if plan.cut == "deadline":
                scope.deadline = trio.current_time() + plan.cut_after
            elif plan.cut == "cancel_at_once":
                scope.cancel()
            elif plan.cut == "grant":
                self.parked.append(scope)
            if plan.cut != "cancel":
                await self.account(plan)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.cancel_later, scope, plan.cut_after)
                await self.account(plan)
                nursery.cancel_scope.cancel()

    async def in_a_nursery(self, plan: Plan) -> None:
        """Make the call as a task of its own, started natively, and cancel its nursery."""
        with trio.move_on_after(plan.cut_after) as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.guarded(plan, self.business), plan)
            except* (CalleeError, ResilienceError):
                pass
        self.world.ended["nursery" if scope.cancelled_caught else "returned"] += 1

    async def cancel_later(self, scope: trio.CancelScope, seconds: float) -> None:
        """Cancel the scope after a time."""
        await trio.sleep(seconds)
        scope.cancel()

    async def account(self, plan: Plan) -> None:
        """Make the call and count how it ended: a cancellation that the callee saw must come out."""
        seen: list[str] = []
        try:
            await getattr(self, f"call_{plan.form}")(plan, seen)
        except trio.Cancelled:
            self.world.ended["cancelled"] += 1
            raise
        except RejectedError:
            self.world.ended["rejected"] += 1
        except CalleeError:
            self.world.ended["error"] += 1
        except ResilienceError:
            self.world.ended["out of time"] += 1
        else:
            self.world.ended["returned"] += 1
            if plan.stack.interrupts:  # by itself, and it may have gone elsewhere then
                return
            assert "cancelled" not in seen, f"call {plan.number} swallowed its cancellation"
            assert "done" in seen or plan.form in ("stream", "stepped"), f"call {plan.number} returned, but never ran"

    async def call_guard(self, plan: Plan, seen: list[str]) -> None:
        """By a decorated function."""
        await self.guarded(plan, self.business)(plan, seen)

    async def call_acall(self, plan: Plan, seen: list[str]) -> None:
        """Through the fused pipeline."""
        await plan.stack.whole.acall(self.business, plan, seen)

    async def call_try_acall(self, plan: Plan, seen: list[str]) -> None:
        """As a result instead of an exception."""
        result = await plan.stack.whole.try_acall(self.business, plan, seen)
        result.unwrap()

    async def call_block(self, plan: Plan, seen: list[str]) -> None:
        """In a block."""
        async with plan.stack.fused.permit(plan):
            await self.business(plan, seen)

    async def call_by_hand(self, plan: Plan, seen: list[str]) -> None:
        """With a permit that is ended by hand, or dropped."""
        permit = await plan.stack.fused.aacquire(plan)
        await self.business(plan, seen)
        ending = plan.number % 4
        if ending < 3:
            (permit.success, permit.failure, permit.ignore)[ending]()

    async def call_reserve(self, plan: Plan, seen: list[str]) -> None:
        """With an estimate of tokens that is settled to another number, or not at all."""
        limit, burst = self.world.limits[0]
        async with limit.reserve(requests=1 + plan.number % burst) as reservation:
            await self.act(plan)
            if plan.number % 2:
                reservation.settle(requests=plan.number % 3)
        seen.append("done")

    async def call_stream(self, plan: Plan, seen: list[str]) -> None:
        """Over a guarded async generator that is broken off or read to its end."""
        async with aclosing(self.guarded(plan, self.items)(plan)) as stream:
            async for item in stream:
                if item == plan.number % 4:
                    self.world.ended["broken off"] += 1
                    break

    async def call_deadline(self, plan: Plan, seen: list[str]) -> None:
        """In a block with a deadline, within another one that may pass at the same time."""
        with resilio.deadline(0.004), resilio.deadline(plan.lasts + 0.001):
            await self.guarded(plan, self.business)(plan, seen)

    async def call_retrying(self, plan: Plan, seen: list[str]) -> None:
        """In a block that is run again."""
        async for attempt in resilio.retrying(on=CalleeError, attempts=3, backoff=0.002, budget=None):
            with attempt:
                await self.guarded(plan, self.business)(plan, seen)

    async def call_stepped(self, plan: Plan, seen: list[str]) -> None:
        """Step a call once by hand and close it in the same step, before trio can know of it."""
        call = plan.stack.fused.acall(self.business, plan, seen)
        try:
            call.send(None)
        except StopIteration:
            return
        call.close()
        self.world.ended["dropped"] += 1

    async def items(self, plan: Plan) -> AsyncIterator[int]:
        """Yield three items."""
        with plan.stack.inside(plan):
            for item in range(3):
                await trio.sleep(plan.lasts / 3)
                yield item

    def guarded(self, plan: Plan, fn: Any) -> Any:
        """Return `fn` decorated with the plan's stack, once."""
        key = (plan.stack, fn.__name__)
        if key not in self.guards:
            self.guards[key] = plan.stack.guard(fn, stream=fn == self.items)
        return self.guards[key]

    async def business(self, plan: Plan, seen: list[str] | None = None) -> None:
        """Do what the plan says, and now and then cancel somebody who waits at this very moment."""
        seen = [] if seen is None else seen
        with plan.stack.inside(plan):
            try:
                await self.act(plan)
                seen.append("done")
            except trio.Cancelled:
                seen.append("cancelled")
                raise
            finally:
                if self.parked and plan.number % 2:
                    self.parked.pop().cancel()

    async def act(self, plan: Plan) -> None:
        """Return, sleep, raise, clean up slowly, call another stack, or be rejected."""
        what = plan.business
        if what in ("sleep", "sleep_raise", "cleanup"):
            try:
                await trio.sleep(plan.lasts)
            finally:
                if what == "cleanup" and plan.form != "stepped":
                    with trio.CancelScope(shield=True):
                        await trio.sleep(0.003)
        if what in ("raise", "sleep_raise"):
            raise CalleeError(what)
        if what == "nested" and plan.inner is not None and plan.form != "stepped":
            await self.nest(plan)
        if what == "reject":
            raise RejectedError("elsewhere")

    async def nest(self, plan: Plan) -> None:
        """Call two other guarded functions at once."""
        assert plan.inner is not None
        stack = plan.inner

        async def inner() -> None:
            with stack.inside():
                await trio.sleep(plan.lasts)

        async def attempt() -> None:
            await stack.whole.try_acall(inner)

        guarded = stack.guard(inner)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt)
                nursery.start_soon(guarded)
        except* ResilienceError:
            pass
