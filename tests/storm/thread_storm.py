"""
A storm in threads, in real time: a blocked thread cannot be cancelled, but it can be interrupted, time out, or lose
interest in what it was granted; and what one thread was granted, another ends, drops or collects.
"""

from __future__ import annotations

import ctypes
import gc
import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import resilio
from resilio import RejectedError, ResilienceError
from resilio._strategies import threads
from storm.world import CalleeError, Plan, World

__all__ = ["FORMS", "Cut", "run_world"]

FORMS = (
    "guard",
    "try_call",
    "block",
    "by_hand",
    "handed_over",
    "stream",
    "dropped_stream",
    "interrupted",
    "reserve",
    "cycle",
    "deadline",
    "retrying",
)
THREADS = 6


class Cut(BaseException):
    """What ends a thread's work from outside."""


def run_world(world: World, calls: int) -> None:
    """Make `calls` calls in `world` from several threads, and wait for their ends."""
    storm = _Storm(world)
    plans = world.plans(calls, FORMS, ("none", "cut"))
    workers = [threading.Thread(target=storm.work, args=(plans[i::THREADS],)) for i in range(THREADS)]
    reaper = threading.Thread(target=storm.reap)
    with _short_idleness():
        for thread in (*workers, reaper):
            thread.start()
        for thread in workers:
            thread.join()
        storm.over = True
        reaper.join()
        storm.end_handed_over()
        while any(getattr(one, "abandoned", 0) for one in world.strategies):  # threads left to themselves
            time.sleep(0.001)
    if storm.failures:
        raise AssertionError("\n".join(storm.failures))


@contextmanager
def _short_idleness() -> Iterator[None]:
    """End threads of timeouts soon: every world has timeouts of its own, and all of them would keep some."""
    before, threads.IDLE_SECONDS = threads.IDLE_SECONDS, 0.005
    try:
        yield
    finally:
        threads.IDLE_SECONDS = before


class _Storm:
    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.RLock()  # a finaliser may come in between
        self.targets: dict[int, _Target] = {}
        self.handed_over: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.failures: list[str] = []
        self.over = False
        self.guards = {  # interrupted while it starts a thread, `threading` may wait for that for ever
            (stack, kind): stack.guard(fn, stream=kind != "call")
            for stack in world.stacks
            for kind, fn in self.functions().items()
        }

    def functions(self) -> dict[str, Any]:
        """Return what the stacks guard."""
        return {"call": self.business, "stream": self.items, "sleep": self.sleep}

    def work(self, plans: list[Plan]) -> None:
        """Make the calls of one thread."""
        rng = random.Random(plans[0].number + self.world.seed)
        for plan in plans:
            try:
                self.one(plan, rng)
            except BaseException as error:
                self.failures.append(f"call {plan.number} ({plan.form}): {error!r}")

    def one(self, plan: Plan, rng: random.Random) -> None:
        """Make one call and count how it ended."""
        try:
            getattr(self, f"call_{plan.form}")(plan, rng)
        except RejectedError:
            self.count("rejected")
        except CalleeError:
            self.count("error")
        except ResilienceError:
            self.count("out of time")
        except Cut:
            self.count("interrupted")
        else:
            self.count("returned")

    def count(self, label: str) -> None:
        """Count an end."""
        with self.lock:
            self.world.ended[label] += 1

    def call_guard(self, plan: Plan, rng: random.Random) -> None:
        """By a decorated function."""
        self.guards[plan.stack, "call"](plan, rng)

    def call_try_call(self, plan: Plan, rng: random.Random) -> None:
        """As a result instead of an exception; what is no Exception is raised all the same."""
        plan.stack.whole.try_call(self.business, plan, rng).unwrap()

    def call_block(self, plan: Plan, rng: random.Random) -> None:
        """In a block."""
        with plan.stack.fused.permit(plan):
            self.business(plan, rng)

    def call_by_hand(self, plan: Plan, rng: random.Random) -> None:
        """With a permit that is ended by hand, or dropped."""
        permit = plan.stack.fused.acquire(plan)
        self.business(plan, rng)
        ending = plan.number % 4
        if ending < 3:
            (permit.success, permit.failure, permit.ignore)[ending]()

    def call_reserve(self, plan: Plan, rng: random.Random) -> None:
        """With an estimate of tokens that is settled to another number, or not at all."""
        limit, burst = self.world.limits[0]
        with limit.reserve(requests=1 + plan.number % burst) as reservation:
            if plan.number % 2:
                reservation.settle(requests=plan.number % 3)

    def call_handed_over(self, plan: Plan, rng: random.Random) -> None:
        """With a permit that another thread ends; and end one of somebody else's."""
        permit = plan.stack.fused.try_acquire(plan)
        if permit:
            self.handed_over.put(permit)
        self.end_handed_over(most=2)

    def end_handed_over(self, most: int = 10**9) -> None:
        """End permits of others, or drop them."""
        for _ in range(most):
            try:
                permit = self.handed_over.get_nowait()
            except queue.Empty:
                return
            if random.random() < 0.7:
                permit.success()
            else:
                self.count("dropped")

    def call_stream(self, plan: Plan, rng: random.Random) -> None:
        """Over a guarded generator that is broken off or read to its end."""
        for item in self.guards[plan.stack, "stream"](plan):
            if item == plan.number % 4:
                self.count("broken off")
                break

    def call_dropped_stream(self, plan: Plan, rng: random.Random) -> None:
        """Begin a guarded generator, and let another thread drop it."""
        stream = self.guards[plan.stack, "stream"](plan)
        next(stream)
        dropper = [stream]
        del stream
        self.handed_over.put(_Dropped(dropper))
        self.end_handed_over(most=2)

    def call_deadline(self, plan: Plan, rng: random.Random) -> None:
        """In a block with a deadline, that may have passed."""
        with resilio.deadline(plan.lasts / 10):
            self.guards[plan.stack, "call"](plan, rng)

    def call_retrying(self, plan: Plan, rng: random.Random) -> None:
        """In a block that is run again."""
        for attempt in resilio.retrying(on=CalleeError, attempts=3, backoff=0.0001, budget=None):
            with attempt:
                self.guards[plan.stack, "call"](plan, rng)

    def call_cycle(self, plan: Plan, rng: random.Random) -> None:
        """Leave a permit in a cycle; whichever thread collects gives it back."""
        permit = plan.stack.fused.try_acquire(plan)
        self.count("dropped" if permit else "rejected")
        cycle: list[Any] = [permit]
        cycle.append(cycle)
        del permit
        if plan.number % 16 == 0:
            gc.collect(0)

    def call_interrupted(self, plan: Plan, rng: random.Random) -> None:
        """
        Be hit by an exception from outside, anywhere in the call: at the queue, in the callee, in between.

        Without a lock: on 3.14 an exception that comes as `with lock` has just taken it leaves it taken for ever
        (python/cpython#148874). That hung the storm, on a busy machine.
        """
        me, target = threading.get_ident(), _Target()
        try:
            self.targets[me] = target
            self.guards[plan.stack, "sleep"](plan)
        finally:
            if self.targets.pop(me, None) is None:
                while not target.hit:
                    time.sleep(0)
            for _ in range(20):  # one that was sent just now arrives here
                pass

    def reap(self) -> None:
        """Interrupt threads that allow it, each once."""
        while not self.over:
            if self.targets:
                with suppress(KeyError):  # it has just ended
                    ident, target = self.targets.popitem()
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Cut))
                    target.hit = True
            time.sleep(0.0002)

    def business(self, plan: Plan, rng: random.Random) -> str:
        """Return, raise, be cut, give way to other threads, or call another stack."""
        with self.inside(plan):
            if rng.random() < 0.3:
                time.sleep(0)
            what = plan.business
            if what in ("raise", "sleep_raise"):
                raise CalleeError(what)
            if what == "cleanup" and plan.cut == "cut":
                raise Cut
            if what == "reject":
                raise RejectedError("elsewhere")
            if what == "nested" and plan.inner is not None:
                plan.inner.whole.try_call(lambda: None)
            return what

    def inside(self, plan: Plan) -> Any:
        """Count who is inside under a lock, as `Stack.inside` does without."""
        return _Inside(plan, self.lock)

    def items(self, plan: Plan) -> Iterator[int]:
        """Yield three items."""
        with self.inside(plan):
            yield from range(3)

    def sleep(self, plan: Plan) -> None:
        """Take a moment, in steps so that an interruption comes in between."""
        for _ in range(5):
            time.sleep(0.0001)


class _Target:
    """One call that may be hit."""

    def __init__(self) -> None:
        self.hit = False


class _Dropped:
    """A generator on its way to the thread that drops it; "ending" it is dropping it."""

    def __init__(self, holder: list[Any]) -> None:
        self.holder = holder

    def success(self) -> None:
        """Drop it."""
        self.holder.clear()


class _Inside:
    """`Stack.inside` for threads."""

    def __init__(self, plan: Plan, lock: Any) -> None:
        self.plan = plan
        self.lock = lock

    def __enter__(self) -> None:
        with self.lock:
            for pool in self.plan.stack.pools:
                pool.enter(self.plan)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            for pool in self.plan.stack.pools:
                pool.leave(self.plan)
