"""
A random little world for storms: policies, stacks of them, and a plan of what each call does and how it is cut short.

All of it follows from one seed. Times are whole milliseconds of virtual time, so that cancellations, grants and
timeouts often fall on the same instant.
"""

from __future__ import annotations

import asyncio
import gc
import random
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs

import resilio
from resilio._native import core
from resilio.testing import assert_no_leaks, record_events
from storm import tactics

__all__ = ["CUT_SHORT", "CalleeError", "Plan", "Stack", "World", "keep_out_of_collections", "storm"]

BUSINESS = ("sleep",) * 8 + ("cleanup",) * 3 + ("return", "raise", "sleep_raise", "nested", "reject")
CUT_SHORT = ("broken off", "cancelled", "dropped", "interrupted", "nursery", "timeout")
"""The ends that count: of a call that something ended from outside while it was under way."""

PER_WORLD = 1000


class CalleeError(Exception):
    """What a callee raises in a storm."""


@attrs.define
class Pool:
    """A bulkhead and an independent count of the permits of those inside."""

    policy: Any
    limit: int
    weighted: bool
    inside: int = 0

    def enter(self, plan: Plan | None) -> None:
        """Count a callee that runs, and check that there are no more than permits."""
        weight = self.weight(plan)
        self.inside += weight  # in one go: the collector may come with any call, and have a callee leave
        assert self.inside <= self.limit, f"{self.inside} inside {self.policy!r}, limit {self.limit}"

    def leave(self, plan: Plan | None) -> None:
        """Count a callee that ends, and check that its permit is still held."""
        weight = self.weight(plan)
        inside, held = self.inside, self.policy.gates[0].used
        self.inside -= weight
        assert held >= inside, f"{inside} inside {self.policy!r}, {held} permits held"

    def weight(self, plan: Plan | None) -> int:
        """Return how many permits the call takes."""
        return heft(plan) if self.weighted else 1


@attrs.define(eq=False)
class Stack:
    """
    Policies around a function, outermost first.

    Attributes:
        layers: Gates and strategies.

        streams: Those that can guard a generator.

        pools: Bulkheads of which each callee that runs has a permit of its own.

        fused: The gates alone, which give permits.

        whole: All layers.

        interrupts: Whether some of them may end a call from outside.
    """

    layers: list[Any]
    streams: list[Any]
    pools: list[Pool]
    fused: Any
    whole: Any
    interrupts: bool

    def guard(self, fn: Callable[..., Any], stream: bool = False) -> Any:
        """Return `fn` under the decorators of this stack."""
        for policy in reversed(self.streams if stream else self.layers):
            fn = policy(fn)
        return fn

    @contextmanager
    def inside(self, plan: Plan | None = None) -> Iterator[None]:
        """Count a callee that runs in all bulkheads of the stack."""
        for pool in self.pools:
            pool.enter(plan)
        try:
            yield
        finally:
            for pool in self.pools:
                pool.leave(plan)


@attrs.frozen
class Plan:
    """What one call does: all times in seconds of virtual time from the storm's begin."""

    number: int
    at: float
    stack: Stack
    form: str
    business: str
    lasts: float
    cut: str
    cut_after: float
    inner: Stack | None


def heft(plan: Plan | None = None, *_: object) -> int:
    """Return the weight of a call, from its arguments."""
    return 1 if plan is None else 1 + plan.number % 3


class Toll:
    """A gate of one's own, in Python: lets most calls in, and counts who is inside."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.inside = 0

    def admit(self, call: Any) -> Any:
        """Let most calls in."""
        if self.random.random() < 0.05:
            return resilio.gates.Reject()
        self.inside += 1
        return None

    def cancel(self, call: Any) -> None:
        """Forget a call that was not made."""
        self.inside -= 1

    def settle(self, call: Any, outcome: Any, seconds: float) -> None:
        """See a call end."""
        self.inside -= 1


class World:
    """
    Policies, stacks and the count of how calls ended, all from `seed`.

    Args:
        seed: Of all that is random here.

        waits: The longest waits that policies choose from, in seconds.

        place: "tasks" or "threads": where it is to be.
    """

    def __init__(self, seed: int, waits: tuple[float, ...], place: str) -> None:
        self.seed = seed
        self.place = place
        self.waits = waits
        self.random = random.Random(seed)
        self.ended: Counter[str] = Counter()
        self.pools: list[Pool] = []
        self.limits: list[tuple[Any, int]] = []
        self.breakers: list[Any] = []
        self.policies: list[Any] = []
        self.tolls: list[Toll] = []
        self.strategies: list[Any] = []
        self._make_policies()
        self.stacks = [self._stack() for _ in range(self.random.randint(2, 6))]

    def _make_policies(self) -> None:
        choose = self.random.choice
        for _ in range(self.random.randint(1, 3)):
            limit = self.random.randint(1, 24)
            queued = choose([0, 3, 1000, 1000])
            waits = {"max_queued": queued, "max_wait": choose(self.waits)} if queued else {}
            weighted = self.random.random() < 0.4
            order = choose(["fifo", "lifo", "adaptive"])
            pool = resilio.bulkhead(limit, order=order, weight=heft if weighted else 1, **waits)
            self.pools.append(Pool(pool, limit, weighted))
            self.policies.append(pool)
        for _ in range(self.random.randint(1, 2)):
            wait = choose([0.0, *self.waits])
            rate, burst = choose([300, 2000, 20_000]), self.random.randint(1, 50)
            limit = resilio.rate_limit(f"{rate}/s", burst=burst, max_wait=wait, max_queued=choose([5, 1000]))
            self.limits.append((limit, burst))
            self.policies.append(limit)
        for _ in range(self.random.randint(1, 2)):
            breaker = resilio.circuit_breaker(
                consecutive=self.random.randint(3, 30),
                open_for=choose([0.001, 0.01]),
                probes=self.random.randint(1, 3),
                probe_lease=choose([None, 0.004, 1.0]),
            )
            self.breakers.append(breaker)
            self.policies.append(breaker)
        shadows = [
            resilio.bulkhead(2, max_queued=3, max_wait=0.004, enforce=choose([0.0, 0.5])),
            resilio.rate_limit("500/s", burst=2, max_wait=0.004, enforce=choose([0.0, 0.5])),
            resilio.circuit_breaker(consecutive=2, open_for=0.005, enforce=choose([0.0, 0.5])),
        ]
        self.policies += self.random.sample(shadows, self.random.randint(0, 2))
        if self.random.random() < 0.5:
            self.tolls.append(Toll(self.seed))
            self.policies.append(resilio.custom_gate(self.tolls[0]))

    def _stack(self) -> Stack:
        rng = self.random
        chosen = rng.sample(self.policies, rng.randint(1, min(5, len(self.policies))))
        strategies = tactics.choose(rng, CalleeError, self.place)
        layers = list(chosen)
        for one in strategies:
            layers.insert(rng.randint(0, len(layers)), one.policy)
            self.strategies.append(one.policy)
        own = tactics.surely_inside(layers, strategies)
        return Stack(
            layers=layers,
            streams=tactics.for_streams(layers, strategies),
            pools=[pool for pool in self.pools if pool.policy in own],
            fused=resilio.pipeline(*chosen),
            whole=resilio.pipeline(*layers),
            interrupts=any(one.kind != "retry" for one in strategies),
        )

    def plans(self, calls: int, forms: tuple[str, ...], cuts: tuple[str, ...]) -> list[Plan]:
        """Return what `calls` calls do."""
        return [self._plan(number, calls, forms, cuts) for number in range(calls)]

    def _plan(self, number: int, calls: int, forms: tuple[str, ...], cuts: tuple[str, ...]) -> Plan:
        rng = self.random
        return Plan(
            number=number,
            at=rng.randint(0, calls) / 1000,
            stack=rng.choice(self.stacks),
            form=rng.choice(forms),
            business=rng.choice(BUSINESS),
            lasts=rng.randint(0, 8) / 1000,
            cut=rng.choice(cuts),
            cut_after=rng.randint(0, 6) / 1000,
            inner=rng.choice(self.stacks) if rng.random() < 0.3 else None,
        )

    def resizes(self) -> list[tuple[float, Callable[[], None]]]:
        """Return when to do what to the bulkheads' sizes; in the end each has its own again."""
        steps: list[tuple[float, Callable[[], None]]] = []
        for pool in self.pools:
            for step in range(self.random.choice([0, 0, 10])):
                size = pool.limit if step == 9 else self.random.randint(1, pool.limit)
                steps.append((step / 10, partial(pool.policy.reconfigure, max_concurrent=size)))
        return steps

    def check(self, rested: bool) -> None:
        """
        Assert that nothing is left: no permit, waiter, lease or call, and that the exact capacity is there.

        Args:
            rested: Whether so much time has passed that every limit is full and no breaker need be open.
        """
        assert_no_leaks(*self.policies, *self.strategies)
        kinds = [core.Call, core.Permit, core.Waiter, core.AmbientDeadline, asyncio.Task]
        if rested:  # a thread that was abandoned has just ended its call otherwise, and may hold what it ran
            kinds.append(core.InnerCall)
        left = [thing for thing in gc.get_objects() if type(thing) in kinds and not getattr(thing, "_spare", False)]
        assert not left, f"{len(left)} native objects are left, the first is {left[0]!r}"
        _events_flow()
        for pool in self.pools:
            assert pool.inside == 0
            _has_exactly(pool.policy, pool.limit)
        if rested:
            for toll in self.tolls:  # an interrupted thread may have left its `admit` half-way
                assert toll.inside == 0, f"{toll.inside} calls inside a gate of one's own"
            for limit, burst in self.limits:
                _has_exactly(limit, burst)
            for breaker in self.breakers:
                _has_exactly(breaker, 1)


def _has_exactly(policy: Any, capacity: int) -> None:
    """Assert that so many permits are there, and not one more (of a breaker: at least one)."""
    breaker = policy.kind == "circuit_breaker"
    permits = [policy.try_acquire() for _ in range(capacity + (not breaker))]
    granted = [bool(permit) for permit in permits]
    assert granted == [True] * capacity + [False] * (not breaker), f"{policy!r}, capacity {capacity}: {granted}"
    for permit in permits[:capacity]:
        permit.ignore()


def _events_flow() -> None:
    """Assert that what was thrown into a delivery of events has not stopped all later ones."""
    breaker = resilio.circuit_breaker()
    with record_events(breaker) as events:
        breaker.force_open()
    assert events.states() == ["forced_open"]


def storm(
    goal: int, run: Callable[[World, int], object], waits: tuple[float, ...], seed: int | None, place: str = "tasks"
) -> Counter[str]:
    """
    Run fresh worlds until `goal` calls have been cut short; return how the calls ended.

    Args:
        goal: Calls to cut short, at least.

        run: Makes so many calls in a world, and checks it.

        waits: The longest waits that policies choose from, in seconds.

        seed: Where to begin: each world has the next one. None: somewhere else each time.

        place: "tasks" or "threads": where it rages.
    """
    seed = secrets.randbits(32) if seed is None else seed
    print(f"storm: until {goal} calls are cut short, RESILIO_SEED={seed}")
    keep_out_of_collections()
    total: Counter[str] = Counter()
    while sum(total[label] for label in CUT_SHORT) < goal:
        world = World(seed, waits, place)
        try:
            with no_complaints():
                run(world, PER_WORLD)
        except BaseException as error:
            error.add_note(f"replay this world with RESILIO_SEED={seed}; calls so far: {dict(world.ended)}")
            raise
        total += world.ended
        seed += 1
    print(f"storm: {sum(total.values())} calls ended as {dict(total.most_common())}")
    return total


def keep_out_of_collections() -> None:
    """
    Freeze what was there before the storm, for good.

    Every world collects several times, and looks through all objects. With the suite's among them one world takes
    longer than a storm of a hundred; to thaw them after each would make the next one walk through them again.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def no_complaints() -> Iterator[None]:
    """Fail if something could not be raised: a coroutine that nobody awaited, an exception that nobody retrieved."""
    complaints: list[str] = []

    def hear(what: Any) -> None:
        if not _is_expected(what):
            complaints.append(f"{what.err_msg}: {what.exc_value!r} in {what.object!r}")

    before, sys.unraisablehook = sys.unraisablehook, hear
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert not complaints, f"{len(complaints)} complaints, the first is {complaints[0]}"


def _is_expected(what: Any) -> bool:
    """Tell whether a storm itself has caused what cannot be raised: thrown into a thread, or dropped in its cleanup."""
    thrown = what.exc_type is not None and what.exc_type.__name__ == "Cut"
    return thrown or "GeneratorExit" in str(what.exc_value)
