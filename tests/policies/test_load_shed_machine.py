"""The load shedder against its oracle: any sequence of arrivals, endings, cancellations, resizes and time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.shedder import ShedderOracle
from oracles.stepping import StepLoop
from resilio import priority
from resilio._context.priority import CLASSES
from resilio._native import clock
from resilio._policies.load_shed import load_shed
from resilio._support import random_seed
from resilio.errors import OverloadedError

MS = 1_000_000
CALLS = st.tuples(st.sampled_from([0, 1, 1, 1, 2, 3]), st.sampled_from([None, 1, 2, 3, 4, 5, 6]), st.integers(0, 4))


class ShedderMachine(RuleBasedStateMachine):
    """Every call is a task; its permit is held until the machine ends it."""

    fair = False

    @initialize(limit=st.integers(1, 4), crowd=st.integers(0, 40), flood=st.sampled_from([0, 0, 80, 250]))
    def begin(self, limit: int, crowd: int, flood: int) -> None:
        self.loop = StepLoop()
        before = random_seed.replace(lambda: 0)
        options: dict[str, Any] = {"tenant": lambda tenant: tenant} if self.fair else {}
        self.shed = load_shed(max_concurrent=limit, **options)
        random_seed.replace(before)
        self.oracle = ShedderOracle(limit, fair=self.fair)
        self.oracle.now_ns = clock.now_ns()
        self.tasks: dict[int, asyncio.Future[Any]] = {}
        self.began: dict[int, int] = {}
        self.keys = iter(range(10**9))
        for number in range(crowd):
            self._call((1, None, number % 3))
        for number in range(flood):
            self._call((number % 4, number % 7, number % 3))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.end()
            self.tasks.clear()
            assert self.shed._gate.used == 0
            assert self.shed.snapshot().queued == 0

    def _with(self, fate: str) -> list[int]:
        return [key for key, known in self.oracle.fate.items() if known == fate]

    def _call(self, call: tuple[int, Any, int]) -> None:
        level, task, tenant = call
        key = next(self.keys)
        with priority(CLASSES[level], task=task):
            self.tasks[key] = self.loop.start(self.shed.aacquire(tenant))
        self.oracle.arrive(key, level, task, tenant, waits=True)
        self.loop.spin()

    @rule(calls=st.lists(CALLS, min_size=1, max_size=8))
    def call(self, calls: list[tuple[int, Any, int]]) -> None:
        for one in calls:
            self._call(one)

    @rule(call=CALLS)
    def try_to_call(self, call: tuple[int, Any, int]) -> None:
        key = next(self.keys)
        with priority(CLASSES[call[0]], task=call[1]):
            answer = self.shed.try_acquire(call[2])
        self.oracle.arrive(key, *call, waits=False)
        self.tasks[key] = done = self.loop.create_future()
        if answer:
            done.set_result(answer)
        else:
            done.set_exception(answer.error)
            done.exception()  # seen: no complaint at the end

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(data)
        self.loop.spin()

    def _end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("held")))
        self.tasks.pop(key).result().success()
        self.oracle.end(key, clock.now_ns() - self.began.get(key, clock.now_ns()))

    @precondition(lambda self: self._with("queued"))
    @rule(data=st.data())
    def cancel_in_the_queue(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("queued")))
        self.tasks.pop(key).cancel()
        self.oracle.cancel(key)
        self.loop.spin()

    @precondition(lambda self: self._with("held") and self._with("queued"))
    @rule(data=st.data())
    def cancel_at_the_grant(self, data: st.DataObject) -> None:
        """A permit is granted, and its waiter is cancelled before its task has run."""
        before = set(self._with("held"))
        self._end(data)
        granted = set(self._with("held")) - before
        if granted:
            key = data.draw(st.sampled_from(sorted(granted)))
            self.tasks.pop(key).cancel()
            self.oracle.cancel(key)
        self.loop.spin()

    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        self.shed.reconfigure(max_concurrent=limit)
        self.oracle.resize(limit)
        self.loop.spin()

    @rule(ms=st.sampled_from([1, 9, 20]))
    def wait(self, ms: int) -> None:
        self.oracle.now_ns += ms * MS
        self.loop.advance(ms * MS)

    def _fate(self, task: asyncio.Future[Any]) -> str:
        if not task.done():
            return "queued"
        error = task.exception()
        if error is None:
            return "held"
        assert isinstance(error, OverloadedError)
        return error.reason

    @invariant()
    def agrees(self) -> None:
        """Every call has the fate that the oracle gives it, and the numbers are those of the calls."""
        if not hasattr(self, "loop"):
            return
        now_ns = clock.now_ns()
        for key, task in self.tasks.items():
            if self._fate(task) == "held":
                self.began.setdefault(key, now_ns)
        assert {key: self._fate(task) for key, task in self.tasks.items()} == self.oracle.fate
        assert self.shed._gate.used == self.oracle.used
        assert self.shed._gate.room == self.oracle.room
        snapshot = self.shed.snapshot()
        assert snapshot.inflight == len(self._with("held"))
        assert snapshot.queued == len(self.oracle.queue)
        assert snapshot.state == ("overloaded" if self.oracle.overloaded else "normal")
        assert sum(self.shed.rejected_by_priority.values()) == self.oracle.lost


class FairShedderMachine(ShedderMachine):
    """The same where tenants take turns."""

    fair = True


ShedderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
FairShedderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestShedderMachine = ShedderMachine.TestCase
TestFairShedderMachine = FairShedderMachine.TestCase
