"""A storm on asyncio: random calls, cut short at random, on any event loop with a virtual clock."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import attrs

import resilio
from resilio import RejectedError, ResilienceError
from storm.world import CalleeError, Plan, Stack, World

__all__ = ["CUTS", "FORMS", "run_world"]

FORMS = (
    *("guard",) * 4, *("acall",) * 2, *("try_acall",) * 2, "block", "by_hand", "reserve", "map", "stream", "driven",
    "deadline", "retrying",
)  # fmt: skip
CUTS = ("cancel",) * 6 + ("none", "cancel_at_once", "cancel_twice", "timeout", "grant", "grant")


async def run_world(world: World, calls: int) -> None:
    """Make `calls` calls in `world`, wait for their ends, and check that nothing is left."""
    storm = _Storm(world)
    storm.loop.set_exception_handler(lambda _, context: storm.failures.append(f"the loop complains: {context}"))
    for plan in world.plans(calls, FORMS, CUTS):
        storm.loop.call_later(plan.at, storm.start, plan)
    for at, resize in world.resizes():
        storm.loop.call_later(at, resize)
    for _ in range(20):
        await asyncio.sleep(50)  # beyond every wait and lease
        storm.parked.clear()
        if not storm.under_way:
            break
        gc.collect()  # what lies in cycles or in a traceback keeps those who map from what it was granted
    if storm.under_way:
        storm.failures.append(f"{storm.under_way} calls hang: {storm.tasks}")
    gc.collect()  # whom nobody asked how it ended complains now
    await asyncio.sleep(1)  # and hedges of calls that were in cycles have their late results discarded
    if storm.failures:
        raise AssertionError("\n".join(storm.failures))
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    assert not rest, f"tasks are left: {rest}"


class _Storm:
    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = asyncio.get_running_loop()
        self.guards: dict[tuple[Stack, bool], Any] = {}
        self.parked: list[Callable[[], None]] = []
        self.cuts: dict[int, list[Callable[[], int]]] = {}
        self.failures: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()  # asyncio itself holds them weakly
        self.cleanups = 0
        self.under_way = 0

    def start(self, plan: Plan) -> None:
        """Make one call and see how it ends."""
        try:
            if plan.form == "driven":
                self.drive(plan)
                return
            answers: list[bool] = []
            self.cuts[plan.number] = [lambda: sum(answers)]
            task = self.loop.create_task(self.call(plan))
            self.under_way += 1
            self.tasks.add(task)
            self.cut(plan, task, answers)
            task.add_done_callback(lambda task: self.account(plan, task, answers))
        except BaseException as error:
            self.failures.append(f"call {plan.number}: {error!r}")
            raise

    def cut(self, plan: Plan, task: asyncio.Task[Any], answers: list[bool]) -> None:
        """Arrange for the task's cancellation; the list gets what `cancel` answered."""

        def cancel() -> None:
            answers.append(task.cancel())

        if plan.cut == "cancel_at_once":
            cancel()
        elif plan.cut in ("cancel", "cancel_twice"):
            self.loop.call_later(plan.cut_after, cancel)
            if plan.cut == "cancel_twice":
                self.loop.call_later(plan.cut_after + 0.001, cancel)
        elif plan.cut == "grant":
            self.parked.append(cancel)

    def cut_so_far(self, plan: Plan) -> int:
        """Return how often the call has been cut by the storm, which nobody else may add to in a cleanup."""
        return sum(count() for count in self.cuts.get(plan.number, ()))

    def account(self, plan: Plan, task: asyncio.Task[Any], cancelled: list[bool]) -> None:
        """Count how the call ended; a cancellation that was accepted must have ended the task."""
        self.under_way -= 1
        self.tasks.discard(task)
        total = self.cut_so_far(plan)
        self.cuts[plan.number] = [lambda: total]  # and no task, with its error and what is in the frames of that
        if task.cancelling() != sum(cancelled) and plan.form != "map":  # its cancel scopes are those of anyio
            self.failures.append(
                f"call {plan.number}: cancelled {sum(cancelled)} times, says {task.cancelling()}: {plan}"
            )
        if task.cancelled():
            self.world.ended["cancelled"] += 1
            if not any(cancelled):
                self.failures.append(f"call {plan.number} ended cancelled, by nobody: {plan}")
            return
        error = task.exception()
        if any(cancelled) and plan.cut != "grant":  # that one may be sent by the task itself, at its end
            self.failures.append(f"call {plan.number} swallowed its cancellation: {task!r} {plan}")
        kinds = {
            RejectedError: "rejected",
            CalleeError: "error",
            ResilienceError: "out of time",
            TimeoutError: "timeout",
        }
        label = next((label for kind, label in kinds.items() if isinstance(error, kind)), None)
        if error is not None and label is None:
            self.failures.append(f"call {plan.number} ended in {error!r}: {plan}")
        self.world.ended[label or "returned"] += 1

    def call(self, plan: Plan) -> Any:
        """Return the awaitable of the call, in the plan's form."""
        if plan.cut == "timeout":
            return self.in_time(plan)
        return getattr(self, f"call_{plan.form}")(plan)

    async def in_time(self, plan: Plan) -> None:
        """Make the call under a timeout of the caller's."""
        async with asyncio.timeout(plan.cut_after) as timeout:
            self.cuts[plan.number].append(timeout.expired)
            await getattr(self, f"call_{plan.form}")(plan)

    def call_guard(self, plan: Plan) -> Any:
        """By a decorated function: the task runs the native call itself."""
        return self.guarded(plan.stack, self.business)(plan)

    def call_acall(self, plan: Plan) -> Any:
        """Through the fused pipeline."""
        return plan.stack.whole.acall(self.business, plan)

    async def call_try_acall(self, plan: Plan) -> None:
        """As a result instead of an exception."""
        result = await plan.stack.whole.try_acall(self.business, plan)
        result.unwrap()

    async def call_block(self, plan: Plan) -> None:
        """In a block."""
        async with plan.stack.fused.permit(plan):
            await self.business(plan)

    async def call_by_hand(self, plan: Plan) -> None:
        """With a permit that is ended by hand, or dropped."""
        permit = await plan.stack.fused.aacquire(plan)
        await self.business(plan)
        ending = plan.number % 4
        if ending < 3:
            (permit.success, permit.failure, permit.ignore)[ending]()

    async def call_reserve(self, plan: Plan) -> None:
        """With an estimate of tokens that is settled to another number, or not at all."""
        limit, burst = self.world.limits[0]
        async with limit.reserve(requests=1 + plan.number % burst) as reservation:
            await self.act(plan)
            if plan.number % 2:
                reservation.settle(requests=plan.number % 3)

    async def call_map(self, plan: Plan) -> None:
        """Over several items at once, each with a permit of its own; broken off now and then."""

        async def one(plan: Plan) -> None:
            pool.enter(plan)
            try:
                await self.act(plan)
            finally:
                pool.leave(plan)

        pool = self.world.pools[plan.number % len(self.world.pools)]
        plans = [attrs.evolve(plan, number=number, business="sleep") for number in range(plan.number % 5)]
        if plan.number % 2:
            await pool.policy.map(one, plans)
            return
        async with pool.policy.map(one, plans, ordered=False) as results:
            async for _ in results:
                break

    async def call_stream(self, plan: Plan) -> None:
        """Over a guarded async generator that is broken off, dropped or read to its end."""
        stream = self.guarded(plan.stack, self.items)(plan)
        async for item in stream:
            if item == plan.number % 4:
                self.world.ended["broken off"] += 1
                break
        if plan.number % 3 == 0:
            await stream.aclose()

    async def call_deadline(self, plan: Plan) -> None:
        """In a block with a deadline, within another one that may pass at the same time."""
        with resilio.deadline(0.004), resilio.deadline(plan.lasts + 0.001):
            await self.guarded(plan.stack, self.business)(plan)

    async def call_retrying(self, plan: Plan) -> None:
        """In a block that is run again."""
        async for attempt in resilio.retrying(on=CalleeError, attempts=3, backoff=0.002, budget=None):
            with attempt:
                await self.guarded(plan.stack, self.business)(plan)

    async def items(self, plan: Plan) -> AsyncIterator[int]:
        """Yield three items."""
        with plan.stack.inside(plan):
            for item in range(3):
                await asyncio.sleep(plan.lasts / 3)
                yield item

    def guarded(self, stack: Stack, fn: Callable[..., Any]) -> Any:
        """Return `fn` decorated with the stack, once."""
        key = (stack, fn == self.items)
        if key not in self.guards:
            self.guards[key] = stack.guard(fn, stream=fn == self.items)
        return self.guards[key]

    async def business(self, plan: Plan) -> str:
        """Do what the plan says, and now and then cancel somebody who waits at this very moment."""
        with plan.stack.inside(plan):
            try:
                return await self.act(plan)
            finally:
                if self.parked and plan.number % 2:
                    self.parked.pop()()

    async def act(self, plan: Plan) -> str:
        """Return, sleep, raise, clean up slowly, call another stack, or be rejected."""
        what = plan.business
        if what in ("sleep", "sleep_raise"):
            await asyncio.sleep(plan.lasts)
        if what in ("raise", "sleep_raise"):
            raise CalleeError(what)
        if what == "cleanup":
            await self.clean(plan)
        if what == "nested" and plan.inner is not None:
            await self.nest(plan)
        if what == "reject":
            raise RejectedError("elsewhere")
        return what

    async def clean(self, plan: Plan) -> None:
        """Sleep, and take time to clean up, which only the storm may cut short."""
        self.cleanups += 1
        cut = -1
        try:
            await asyncio.sleep(plan.lasts)
        except asyncio.CancelledError:
            cut = self.cut_so_far(plan)
            raise
        finally:
            try:
                await asyncio.sleep(0.003)
            except asyncio.CancelledError:
                if cut == self.cut_so_far(plan):
                    self.failures.append(f"call {plan.number}: its cleanup was cancelled: {plan}")
                raise
            finally:
                self.cleanups -= 1

    async def nest(self, plan: Plan) -> None:
        """Call two other guarded functions at once."""
        assert plan.inner is not None
        stack = plan.inner

        async def inner() -> None:
            with stack.inside():
                await asyncio.sleep(plan.lasts)

        guarded = stack.guard(inner)
        await asyncio.gather(guarded(), stack.whole.try_acall(inner), return_exceptions=True)

    def drive(self, plan: Plan) -> None:
        """Step the call once by hand, and leave it: dropped, closed, thrown into, or in a cycle for the collector."""
        if plan.business == "cleanup" and plan.number % 4:
            plan = attrs.evolve(plan, business="sleep")  # who drops a coroutine cannot have it await on
        call = self.guarded(plan.stack, self.business)(plan)
        try:
            call.send(None)
        except (StopIteration, CalleeError, ResilienceError):
            self.world.ended["driven"] += 1
            return
        self.world.ended["dropped"] += 1
        way = plan.number % 4
        if way == 0:
            with suppress(RuntimeError):  # "coroutine ignored GeneratorExit": its cleanup awaits
                call.close()
        elif way == 1:
            self.throw(call, plan)
        elif way == 2:
            self.leave_in_a_cycle(call, plan)

    def throw(self, call: Any, plan: Plan) -> None:
        """Throw an error in, until the call has ended."""
        try:
            for _ in range(1000):
                call.throw(CalleeError("thrown"))
            raise AssertionError(f"a call goes on for ever, whatever is thrown into it: {plan}")
        except (StopIteration, CalleeError, ResilienceError):
            pass

    def leave_in_a_cycle(self, call: Any, plan: Plan) -> None:
        """Leave the call where only the collector finds it, in this thread or in another."""
        cycle = [call]
        cycle.append(cycle)
        del call, cycle
        if plan.number % 64 == 2:
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
