"""The gate of an adaptive limit against its oracle: any sequence of arrivals, endings, drops and cancellations."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from oracles.adaptive_limit import AdaptiveOracle
from oracles.calls import CallMachine
from oracles.laws import Aimd
from oracles.stepping import StepLoop
from resilio import AdaptiveLimit, OverloadedError, adaptive_limit

MS = 1_000_000
START = 3


class AdaptiveLimitMachine(CallMachine):
    """The adaptive limit."""

    error = OverloadedError

    @initialize(max_queued=st.sampled_from([0, 2, 8]), max_wait_ms=st.sampled_from([20, 60]))
    def begin(self, max_queued: int, max_wait_ms: int) -> None:
        self.loop = StepLoop()
        wait = max_wait_ms / 1e3 if max_queued else None
        self.limit = self._made(law="aimd", start=START, ceiling=9, max_queued=max_queued, max_wait=wait)
        self._against(self.limit, AdaptiveOracle(Aimd(float(START), 1.0, 9.0), max_queued, max_wait_ms * MS))

    def _made(self, **options: Any) -> AdaptiveLimit:
        return adaptive_limit(**options)

    def _is_idle(self) -> None:
        assert self.limit.used == 0

    @rule(number=st.integers(1, 4))
    def call(self, number: int) -> None:
        for _ in range(number):
            self.wait(1)  # no two calls come at one time: then which of them is late first is no question
            key = next(self.keys)
            self.tasks[key] = self.loop.start(self.limit.aacquire())
            self.oracle.arrive(key, waits=True)

    @rule()
    def try_to_call(self) -> None:
        key = next(self.keys)
        answer = self.limit.try_acquire()
        self.oracle.arrive(key, waits=False)
        self._answered(key, answer)

    @precondition(lambda self: self._with("held"))
    @rule(data=st.data(), how=st.sampled_from(["success", "success", "drop", "nothing"]))
    def end(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(self._with("held")))
        permit = self.tasks.pop(key).result()
        if how == "success":
            permit.success()
        elif how == "nothing":
            permit.ignore()
        else:
            permit.failure()
        self.oracle.end(key, how)
        self.loop.spin()

    def _cancelled(self, key: int) -> None:
        self.oracle.end(key, "nothing")

    @precondition(lambda self: self._with("held") and self._with("queued"))
    @rule(data=st.data())
    def cancel_at_the_grant(self, data: st.DataObject) -> None:
        """A permit is granted, and its waiter is cancelled before its task has run."""
        before = set(self._with("held"))
        ended = data.draw(st.sampled_from(sorted(before)))
        self.tasks.pop(ended).result().success()
        self.oracle.end(ended, "success")
        for key in sorted(set(self._with("held")) - before):
            self.tasks.pop(key).cancel()
            self.oracle.end(key, "nothing")
        self.loop.spin()

    @rule(bounds=st.tuples(st.integers(1, 9), st.integers(1, 9)))
    def reconfigure(self, bounds: tuple[int, int]) -> None:
        low, high = min(bounds), max(bounds)
        self.limit.reconfigure(floor=low, ceiling=high, start=min(max(START, low), high))
        self.oracle.bound(low, high)
        self.loop.spin()

    @rule()
    def reset(self) -> None:
        law = self.oracle.law
        self.limit.reset()
        self.oracle.reset(Aimd(min(max(float(START), law.floor), law.ceiling), law.floor, law.ceiling))
        self.loop.spin()

    @rule(ms=st.sampled_from([1, 9, 20]))
    def wait(self, ms: int) -> None:
        self.oracle.advance(ms * MS)
        self.loop.advance(ms * MS)

    def _numbers_agree(self, snapshot: Any) -> None:
        """The limit is the oracle's."""
        assert self.limit.used == self.oracle.used
        assert abs(snapshot.learned - self.oracle.law.limit) < 1e-9


AdaptiveLimitMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestAdaptiveLimitMachine = AdaptiveLimitMachine.TestCase
