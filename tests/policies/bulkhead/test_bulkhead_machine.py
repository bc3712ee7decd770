"""The bulkhead against its oracle: any sequence of arrivals, endings, cancellations, resizes and time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.bulkhead import BulkheadOracle
from oracles.stepping import StepLoop
from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
from resilio.errors import BulkheadFullError

MS = 1_000_000
WEIGHTS = st.integers(1, 4)


class BulkheadMachine(RuleBasedStateMachine):
    """Every call is a task; its permit is held until the machine ends it."""

    @initialize(
        capacity=st.integers(1, 5),
        max_queued=st.sampled_from([0, 2, 6, 10]),
        max_wait_ms=st.sampled_from([20, 60]),
        order=st.sampled_from(["fifo", "lifo", "adaptive"]),
    )
    def begin(self, capacity: int, max_queued: int, max_wait_ms: int, order: Any) -> None:
        self.loop = StepLoop()
        self.limit = self._made(
            capacity,
            max_queued=max_queued,
            max_wait=max_wait_ms / 1e3 if max_queued else None,
            order=order,
            weight=lambda weight: weight,
        )
        self.oracle = BulkheadOracle(capacity, max_queued, max_wait_ms * MS, order)
        self.tasks: dict[int, asyncio.Future[Any]] = {}
        self.rejected = 0
        self.keys = iter(range(10**9))

    def _made(self, *args: Any, **options: Any) -> Bulkhead:
        return bulkhead(*args, **options)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.end()
            self.tasks.clear()
            assert self.limit.used == 0
            assert self.limit.snapshot().queued == 0

    def _with(self, fate: str) -> list[int]:
        return [key for key, known in self.oracle.fate.items() if known == fate]

    @rule(weights=st.lists(WEIGHTS, min_size=1, max_size=5))
    def call(self, weights: list[int]) -> None:
        for weight in weights:
            self._tick(1)  # no two calls come at one time: then which of them is late first is no question
            key = next(self.keys)
            self.tasks[key] = self.loop.start(self.limit.aacquire(weight))
            self.oracle.arrive(key, weight, waits=True)

    @rule(weight=WEIGHTS)
    def try_to_call(self, weight: int) -> None:
        key = next(self.keys)
        answer = self.limit.try_acquire(weight)
        self.oracle.arrive(key, weight, waits=False)
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
        self.oracle.end(key)

    @precondition(lambda self: self._with("queued"))
    @rule(data=st.data())
    def cancel_in_the_queue(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("queued")))
        self.tasks.pop(key).cancel()
        self.oracle.end(key)
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
            self.oracle.end(key)
        self.loop.spin()

    @rule(capacity=st.integers(1, 5))
    def resize(self, capacity: int) -> None:
        self.limit.resize(capacity)
        self.oracle.resize(capacity)
        self.loop.spin()

    @rule(ms=st.sampled_from([1, 9, 20]))
    def wait(self, ms: int) -> None:
        self._tick(ms)

    def _tick(self, ms: int) -> None:
        self.oracle.advance(ms * MS)
        self.loop.advance(ms * MS)

    @precondition(lambda self: len(self.oracle.queue) > 5)
    @rule()
    def close(self) -> None:
        self.limit.close()
        self.oracle.close()
        self.loop.spin()

    def _fate(self, task: asyncio.Future[Any]) -> str:
        if not task.done():
            return "queued"
        error = task.exception()
        if error is None:
            return "held"
        assert isinstance(error, BulkheadFullError)
        return error.reason

    @invariant()
    def agrees(self) -> None:
        """Every call has the fate that the oracle gives it, and the numbers are those of the calls."""
        if not hasattr(self, "loop"):
            return
        assert {key: self._fate(task) for key, task in self.tasks.items()} == self.oracle.fate
        assert self.limit.used == self.oracle.used
        snapshot = self.limit.snapshot()
        assert snapshot.inflight == len(self._with("held"))
        assert snapshot.queued == len(self.oracle.queue)


BulkheadMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestBulkheadMachine = BulkheadMachine.TestCase
