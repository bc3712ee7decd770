"""The load shedder against its oracle: any sequence of arrivals, endings, cancellations, resizes and time."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from oracles.calls import CallMachine
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


class ShedderMachine(CallMachine):
    """The load shedder."""

    error = OverloadedError

    fair = False

    @initialize(limit=st.integers(1, 4), crowd=st.integers(0, 40), flood=st.sampled_from([0, 0, 80, 250]))
    def begin(self, limit: int, crowd: int, flood: int) -> None:
        self.loop = StepLoop()
        before = random_seed.replace(lambda: 0)
        options: dict[str, Any] = {"tenant": lambda tenant: tenant} if self.fair else {}
        self.shed = load_shed(max_concurrent=limit, **options)
        random_seed.replace(before)
        self._against(self.shed, ShedderOracle(limit, fair=self.fair))
        self.oracle.now_ns = clock.now_ns()
        self.began: dict[int, int] = {}
        for number in range(crowd):
            self._call((1, None, number % 3))
        for number in range(flood):
            self._call((number % 4, number % 7, number % 3))

    def _is_idle(self) -> None:
        assert self.shed._gate.used == 0

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
        self._answered(key, answer)

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(data)
        self.loop.spin()

    def _end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("held")))
        self.tasks.pop(key).result().success()
        self.oracle.end(key, clock.now_ns() - self.began.get(key, clock.now_ns()))

    @rule(limit=st.integers(1, 6))
    def resize(self, limit: int) -> None:
        self.shed.reconfigure(max_concurrent=limit)
        self.oracle.resize(limit)
        self.loop.spin()

    @rule(ms=st.sampled_from([1, 9, 20]))
    def wait(self, ms: int) -> None:
        self.oracle.now_ns += ms * MS
        self.loop.advance(ms * MS)

    def _numbers_agree(self, snapshot: Any) -> None:
        now_ns = clock.now_ns()
        for key in self._with("held"):
            self.began.setdefault(key, now_ns)
        assert self.shed._gate.used == self.oracle.used
        assert self.shed._gate.room == self.oracle.room
        assert snapshot.state == ("overloaded" if self.oracle.overloaded else "normal")
        assert sum(self.shed.rejected_by_priority.values()) == self.oracle.lost


class FairShedderMachine(ShedderMachine):
    """The same where tenants take turns."""

    fair = True


ShedderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
FairShedderMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestShedderMachine = ShedderMachine.TestCase
TestFairShedderMachine = FairShedderMachine.TestCase
