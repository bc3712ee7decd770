"""The bulkhead against its oracle: any sequence of arrivals, endings, cancellations, resizes and time."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from oracles.bulkhead import BulkheadOracle
from oracles.calls import CallMachine
from oracles.stepping import StepLoop
from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
from resilio.errors import BulkheadFullError

MS = 1_000_000
WEIGHTS = st.integers(1, 4)


class BulkheadMachine(CallMachine):
    """The bulkhead."""

    error = BulkheadFullError

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
        self._against(self.limit, BulkheadOracle(capacity, max_queued, max_wait_ms * MS, order))

    def _made(self, *args: Any, **options: Any) -> Bulkhead:
        return bulkhead(*args, **options)

    def _is_idle(self) -> None:
        assert self.limit.used == 0

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
        self._answered(key, answer)

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(data)
        self.loop.spin()

    def _end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("held")))
        self.tasks.pop(key).result().success()
        self.oracle.end(key)

    def _cancelled(self, key: int) -> None:
        self.oracle.end(key)

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

    def _numbers_agree(self, snapshot: Any) -> None:
        assert self.limit.used == self.oracle.used


BulkheadMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestBulkheadMachine = BulkheadMachine.TestCase
