"""The rate limit against its oracle: any sequence of calls, cancellations, corrections and time."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from oracles.calls import CallMachine
from oracles.limiter import Bucket, LimiterOracle, Window
from oracles.stepping import StepLoop
from resilio._policies.rate_limit.policy import Rate, rate_limit
from resilio.errors import RateLimitedError

MS = 1_000_000
UNITS = ("requests", "tokens", "dollars")
RATES = [(100, 3), (30, 1), (7, 5), (Fraction(5, 2), 2), (1000, 50)]
WINDOWS = [None, None, (7, 2), (3, 3), (1, 2), (10, 5)]
COSTS = st.sampled_from([0, 1, 1, 1, 2, 3, Fraction(1, 4)])


class LimiterMachine(CallMachine):
    """The rate limit."""

    error = RateLimitedError

    @initialize(
        rates=st.lists(st.sampled_from(RATES), min_size=1, max_size=3),
        window=st.sampled_from(WINDOWS),
        max_queued=st.sampled_from([0, 2, 8]),
        max_wait_ms=st.sampled_from([0, 50, 1000, 7000]),
    )
    def begin(
        self, rates: list[tuple[Any, int]], window: tuple[int, int] | None, max_queued: int, max_wait_ms: int
    ) -> None:
        self.loop = StepLoop()
        self.units = UNITS[: len(rates)]
        self.whole = window is not None
        made = [
            Rate(f"{float(amount)}/s", unit=unit, burst=burst, cost=lambda *costs, i=i: float(costs[i]))
            for i, (unit, (amount, burst)) in enumerate(zip(self.units, rates, strict=True))
        ]
        buckets: list[Bucket | Window] = [Bucket(Fraction(amount) / 10**9, Fraction(burst)) for amount, burst in rates]
        if window:  # the first rate is one
            made[0] = Rate("{}/{}s".format(*window), cost=lambda *costs: math.ceil(costs[0]))
            buckets[0] = Window(Fraction(window[0]), window[1] * 10**9)
        self.limit = rate_limit(*made, max_queued=max_queued, max_wait=max_wait_ms / 1e3)
        self._against(self.limit, LimiterOracle(buckets, max_queued, max_wait_ms * MS))

    def _is_idle(self) -> None:
        assert self.limit.snapshot().inflight == 0
        assert self.limit.cost_errors == 0

    def _costs(self, costs: list[Any]) -> tuple[Fraction, ...]:
        first = math.ceil(costs[0]) if self.whole else costs[0]
        return tuple(Fraction(cost) for cost in [first, *costs[1 : len(self.units)]])

    @rule(calls=st.lists(st.lists(COSTS, min_size=3, max_size=3), min_size=1, max_size=4))
    def call(self, calls: list[list[Any]]) -> None:
        for costs in calls:
            self._tick(1)  # no two calls come at one time: then which of them is late first is no question
            key = next(self.keys)
            self.tasks[key] = self.loop.start(self.limit.aacquire(*costs))
            self.oracle.arrive(key, self._costs(costs), waits=True, seen=self._fate(self.tasks[key]))

    @rule(costs=st.lists(COSTS, min_size=3, max_size=3))
    def try_to_call(self, costs: list[Any]) -> None:
        key = next(self.keys)
        answer = self.limit.try_acquire(*costs)
        self.oracle.arrive(key, self._costs(costs), waits=False, seen="held" if answer else answer.reason)
        self._answered(key, answer)
        if not answer:
            assert answer.reason == "too_large" or self._close(answer.retry_after, self.oracle.waits_ns[key])

    @rule(costs=st.lists(COSTS, min_size=3, max_size=3))
    def peek(self, costs: list[Any]) -> None:
        before = self.limit.available
        seconds = self.limit.peek(*costs)
        if seconds != float("inf"):
            assert self._close(seconds, self.oracle.wait_ns(self._costs(costs)))
        assert self.limit.available == before

    def _close(self, seconds: float, ns: int) -> bool:
        return abs(round(seconds * 1e9) - ns) <= self.oracle.rounding_ns

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with("held")))
        self.tasks.pop(key).result().success()
        self.oracle.end(key)

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """An inner gate rejects: the tokens go back."""
        self._end(data)
        self.loop.spin()

    def _end(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self._with("held"))))
        self.tasks.pop(key).result().cancel()
        self.oracle.cancel(key)

    @rule(index=st.integers(0, 2), tokens=st.sampled_from([-2, -1, 1, 4]))
    def settle(self, index: int, tokens: int) -> None:
        index %= len(self.units)
        self.limit._gate.adjust(self.units[index], tokens)
        self.oracle.adjust(tuple(Fraction(tokens if i == index else 0) for i in range(len(self.units))))
        self.loop.spin()

    @rule(ms=st.sampled_from([1, 7, 10, 33, 400]))
    def wait(self, ms: int) -> None:
        self._tick(ms)

    def _tick(self, ms: int) -> None:
        self.oracle.advance(ms * MS)
        self.loop.advance(ms * MS)

    def _numbers_agree(self, snapshot: Any) -> None:
        """The buckets have what the oracle's have, to a millionth."""
        available = self.limit.available
        for unit, bucket in zip(self.units, self.oracle.buckets, strict=True):
            assert abs(available[unit] - bucket.tokens) <= 1.001e-6


LimiterMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestLimiterMachine = LimiterMachine.TestCase


@pytest.mark.parametrize("max_queued", [2, 8])
def test_a_wait_of_exactly_max_wait_is_rounded_by_the_limiter(max_queued: int) -> None:
    """The oracle rounds each service up, and had the last call come a nanosecond too late: a rare failure."""
    machine, quarter = LimiterMachine(), Fraction(1, 4)
    machine.begin(rates=[(30, 1)], window=None, max_queued=max_queued, max_wait_ms=50)
    machine.call(calls=[[1] * 3, [1] * 3, [quarter] * 3])
    machine.wait(ms=22)
    machine.call(calls=[[1] * 3])  # 1.5 tokens are missing: 50 ms
    machine.agrees()
    machine.teardown()
