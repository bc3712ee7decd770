"""
The real policies as fronts of simulated workers, with the library's clock the simulation's.

Where nobody waits, permits are taken and ended by hand, in the loop of events that runs the baselines. Where calls wait
they are tasks, of an event loop that has no selector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from benchmarks.efficacy._queueing import NEVER, Plan, Results, Workers
from resilio import DeadlineExceededError, RejectedError, deadline
from resilio._native import clock
from resilio._native.core import Permit
from resilio._native.simulation import EventLoop
from resilio.testing import virtual_time

__all__ = ["Queueing", "Rejecting", "on_virtual_time"]

_BASE_NS = 10**15
_last_ns = _BASE_NS


@contextmanager
def on_virtual_time() -> Iterator[None]:
    """Let the library's clock be moved by the fronts made in this block alone."""
    with virtual_time():
        yield


class Rejecting:
    """
    A policy that admits or rejects at once, by permits taken and ended by hand.

    Args:
        policy: A fresh one.

        late: How a permit ends whose answer came too late: as a failure by a timeout (True), or as a success.
    """

    def __init__(self, policy: Any, late: bool = True) -> None:
        self.policy = policy
        self.late = late
        self.permits: dict[int, Permit] = {}

    def attach(self, workers: Workers) -> None:
        """Begin, a little after all runs before."""
        self.send, self.arrivals = workers.send, workers.plan.arrivals
        self.patience = workers.plan.patience
        self.begin_ns = _next_ns()
        self.acquire: Callable[[], Any] = self.policy.try_acquire

    def arrive(self, call: int, now: float) -> None:
        """Ask the policy."""
        self._clock(now)
        permit = self.acquire()
        if permit:
            self.permits[call] = permit
            self.send(call)

    def ended(self, call: int, now: float) -> None:
        """Give the permit back."""
        self._clock(now)
        permit = self.permits.pop(call)
        if self.late and now - self.arrivals[call] > self.patience:
            permit.failure(TimeoutError())
        else:
            permit.success()

    def _clock(self, now: float) -> None:
        _move_to(self.begin_ns + round(now * 1e9))


class Queueing:
    """
    A policy that may let calls wait.

    Args:
        policy: A fresh one.

        deadlines: Whether it knows until when callers wait.
    """

    def __init__(self, policy: Any, deadlines: bool) -> None:
        self.policy = policy
        self.deadlines = deadlines

    def serve(self, plan: Plan) -> Results:
        """Do what `_queueing.serve` does."""
        clock.set_virtual(_next_ns())
        run = _Run(self, plan)
        run.until((plan.arrivals[-1] + 3 * plan.patience) * 1e9)
        _move_to(run.loop.now)
        if run.errors:
            raise run.errors[0]
        return Results(plan, run.ends)


class _Run:
    def __init__(self, front: Queueing, plan: Plan) -> None:
        self.errors: list[BaseException] = []
        self.loop = EventLoop(self.failed)
        self.tasks: set[Any] = set()
        self.begin_ns = self.loop.now
        self.ends = [NEVER] * len(plan.arrivals)
        self.plan = plan
        self.free = plan.workers
        self.waiting: deque[tuple[int, Any]] = deque()
        self.guarded = front.policy(self.work)
        self.deadlines = front.deadlines
        self.next = iter(enumerate(plan.arrivals))
        self.call = 0
        self.arrive_next()

    def arrive_next(self) -> None:
        self.call, at = next(self.next, (-1, 0.0))
        if self.call >= 0:
            self.loop.at(self.begin_ns + round(at * 1e9), self.arrive)

    def failed(self, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))

    def until(self, ns: float) -> None:
        self.loop.run(self.begin_ns + round(ns), lambda: True)
        for task in self.tasks:
            task.cancel()
        self.loop.run(self.loop.now, lambda: True)

    def arrive(self) -> None:
        task = self.loop.create_task(self.serve(self.call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.arrive_next()

    async def serve(self, call: int) -> None:
        try:
            with deadline(self.plan.patience) if self.deadlines else nullcontext():
                await self.guarded(call)
        except (RejectedError, DeadlineExceededError):
            return
        self.ends[call] = (self.loop.now - self.begin_ns) * 1e-9

    async def work(self, call: int) -> None:
        done = self.loop.create_future()
        if self.free:
            self.free -= 1
            self.start(call, done)
        else:
            self.waiting.append((call, done))
        await done

    def start(self, call: int, done: Any) -> None:
        plan, step = self.plan, self.plan.step
        size = plan.sizes[call]
        if step.begin <= (self.loop.now - self.begin_ns) * 1e-9 < step.end:
            size *= step.times
        self.loop.at(self.loop.now + round(size * 1e9), self.end, done)

    def end(self, done: Any) -> None:
        done.set_result(None)
        if self.waiting:
            self.start(*self.waiting.popleft())
        else:
            self.free += 1


def _next_ns() -> int:
    return (_last_ns // 10**12 + 1) * 10**12


def _move_to(now_ns: int) -> None:
    global _last_ns
    _last_ns = now_ns
    clock.set_virtual(now_ns)
