"""
The ledger's invariant in threads: calls and generators that block, wait for each other and are left to themselves by
timeouts add up as tasks do. The clock is virtual here too: it moves when all threads wait for it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from time_ledger.adding_up import SILENCED, Book, Count, check_counted, storm, told

import resilio
from resilio import _backends, phase
from resilio._native import core
from resilio.testing import VirtualTime, virtual_time
from storm.tactics import ms
from storm.world import CalleeError, Plan, Stack, World

pytestmark = SILENCED

WAITS = (0.002, 0.01, 0.05)
FORMS = ("guard", "call", "try_call", "stream", "stream")
CUTS = ("none", "none", "break_off")
PER_WORLD = 50
THREADS = 6


def elsewhere(plan: Plan) -> list[str]:
    """Give items in place of a stream that has failed."""
    _backends.sleep(0.001)
    return ["else", "where"]


class Threads:
    """One world's calls in several threads, each checked as it ends."""

    def __init__(self, world: World, vt: VirtualTime) -> None:
        self.world = world
        self.vt = vt
        self.book = Book()
        self.lock = threading.Lock()
        self.streams: dict[Stack, Any] = {}
        self.around_streams = [policy for stack in world.stacks for policy in self.guard_streams(stack)]
        self.guards = {stack: stack.guard(self.business) for stack in world.stacks}

    def guard_streams(self, stack: Stack) -> list[Any]:
        """Put gates, retries and a fallback around a generator function, in some order; return what it is made of."""
        rng = random.Random(self.world.seed + self.world.stacks.index(stack))
        layers = list(stack.streams)
        if rng.random() < 0.5:
            layers.insert(rng.randint(0, len(layers)), resilio.retry(on=Exception, backoff=ms(rng, 0, 3), budget=None))
        if rng.random() < 0.5:
            layers.insert(rng.randint(0, len(layers)), resilio.fallback(elsewhere, on=CalleeError, memory=0.002))
        fn = self.items
        for layer in reversed(layers):
            fn = layer(fn)
        self.streams[stack] = fn
        return layers

    def run(self, calls: int) -> None:
        """Make the calls, and move the clock until all threads have ended."""
        plans = self.world.plans(calls, FORMS, CUTS)
        threads = [threading.Thread(target=self.work, args=(plans[at::THREADS],)) for at in range(THREADS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.vt.advance(0.05)
        self.vt.advance(1.0)  # what timeouts have left to itself
        self.book.close()

    def work(self, plans: list[Plan]) -> None:
        for plan in plans:
            self.checked(plan)

    def checked(self, plan: Plan) -> None:
        token = told.set(box := [])
        began, error = self.vt.now, None
        try:
            getattr(self, f"call_{plan.form}")(plan)
        except (CalleeError, Exception) as raised:
            error = raised
        wall = self.vt.now - began
        told.reset(token)
        with self.lock:
            self.book.enter(plan, box, error, wall)

    def call_guard(self, plan: Plan) -> None:
        self.guards[plan.stack](plan)

    def call_call(self, plan: Plan) -> None:
        plan.stack.whole.call(self.business, plan)

    def call_try_call(self, plan: Plan) -> None:
        plan.stack.whole.try_call(self.business, plan).unwrap()

    def call_stream(self, plan: Plan) -> None:
        """Read a guarded generator, to its end or not."""
        items = self.streams[plan.stack](plan)
        for item in items:
            _backends.sleep(0.001)
            if plan.cut == "break_off" and item:
                items.close()

    def business(self, plan: Plan) -> str:
        """Sleep, tell phases, raise."""
        if plan.number % 3 == 0:
            phase("connect")
        _backends.sleep(plan.lasts / 2)
        if plan.number % 3 == 0:
            phase("body")
        _backends.sleep(plan.lasts / 2)
        if plan.business in ("raise", "sleep_raise"):
            raise CalleeError(plan.business)
        return plan.business

    def items(self, plan: Plan) -> Iterator[int]:
        """Connect, wait, give three items; fail before the first or after the last."""
        if plan.number % 3 == 0:
            phase("connect")
        _backends.sleep(plan.lasts / 2)
        if plan.business in ("raise", "sleep_raise", "nested") and random.random() < 0.7:
            raise CalleeError(plan.business)
        for number in range(3):
            yield number
            _backends.sleep(plan.lasts / 2)
        if plan.business == "reject":
            raise CalleeError(plan.business)


def run_world(seed: int) -> Count:
    with virtual_time(patience=10) as vt:
        world = World(seed, WAITS, "threads")
        threads = Threads(world, vt)
        threads.run(PER_WORLD)
        calls = [one for stack in world.stacks for one in (*stack.layers, stack.whole)]
        check_counted([*calls, *threads.around_streams], threads.book.count, PER_WORLD)
    return threads.book.count


@pytest.mark.real(2.0)
@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
def test_segments_in_threads_add_up() -> None:
    """Of two hundred random calls and generators in threads each adds up."""
    total = storm("threads", 200, PER_WORLD, run_world)
    assert {"attempt", "connect", "body"} <= set(total.segments)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.usefixtures("all_told")
@pytest.mark.parametrize("calls", [1000, pytest.param(5000, marks=pytest.mark.soak)])
def test_segments_of_many_calls_in_threads_add_up(calls: int) -> None:
    """Of a thousand each adds up, too, and every segment that they have is among them."""
    total = storm("threads", calls, PER_WORLD, run_world)
    slow = {"rate_limit"}  # on a slow machine there are tokens for all
    assert set(total.segments) >= set(core.SEGMENTS) - {"own", "hedge"} - slow
