"""The timer wheel against its oracle: any sequence of arming, disarming, firing that does either, and jumps of time."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oracles.stepping import StepLoop
from oracles.timers import TICK_NS, Action, TimerList
from resilio._native import clock
from resilio._native.core import Timer

MS, HALF = 1_000_000, TICK_NS // 2
YEAR = 365 * 86400 * 1000 * MS
KEYS = st.integers(0, 11)
# The oracle is exact where a float of seconds is not: all times are a whole number of ms and half a tick.
NANOSECONDS = st.one_of(
    st.integers(0, 3),
    st.integers(0, 200),
    st.integers(0, 10_000),
    st.integers(0, 10**8),
    st.integers(0, 5 * YEAR // MS),
).map(lambda ms: ms * MS)
ACTIONS = st.tuples(st.sampled_from(["arm", "arm", "disarm"]), KEYS, NANOSECONDS)


class TimersMachine(RuleBasedStateMachine):
    """Twelve timers in the wheel of one loop, whose time only the machine moves."""

    @initialize()
    def begin(self) -> None:
        self.loop = StepLoop()
        clock.set_virtual(1000 * MS + HALF)
        self.oracle = TimerList()
        self.fired: list[int] = []
        self.scripts: dict[int, list[Action]] = {}
        self.timers = [Timer(self._fire, key) for key in range(12)]

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.timers.clear()
            self.loop.end()

    def _fire(self, key: int) -> None:
        self.fired.append(key)
        for what, other, ns in self.scripts.pop(key, []):
            self._do(what, other, ns)

    def _do(self, what: str, key: int, ns: int) -> None:
        if what == "arm":
            self.timers[key].arm(ns / 1e9)
        else:
            self.timers[key].disarm()

    def _inside(self, function: Any, *args: Any) -> None:
        async def call() -> None:
            function(*args)

        self.loop.run_until_complete(call())

    @rule(keys=st.lists(KEYS, min_size=1, max_size=6), ns=NANOSECONDS)
    def arm(self, keys: list[int], ns: int) -> None:
        for key in keys:
            self.oracle.arm(key, clock.now_ns(), ns)
            self._inside(self._do, "arm", key, ns)

    @rule(key=KEYS)
    def disarm(self, key: int) -> None:
        self.oracle.disarm(key)
        self.timers[key].disarm()

    @rule(key=KEYS)
    def drop(self, key: int) -> None:
        self.oracle.disarm(key)
        self.timers[key] = Timer(self._fire, key)

    @rule(key=KEYS, actions=st.lists(ACTIONS, min_size=1, max_size=5))
    def let_it_do_something_when_it_fires(self, key: int, actions: list[Action]) -> None:
        self.scripts[key] = list(actions)
        self.oracle.scripts[key] = list(actions)

    @rule(ns=NANOSECONDS)
    def pass_time(self, ns: int) -> None:
        self.oracle.move_to(clock.now_ns() + ns)
        self.loop.advance(ns)

    @rule(ms=st.integers(1, 3000))
    def set_time_back(self, ms: int) -> None:
        now = clock.now_ns()
        clock.set_virtual(max(HALF, now - ms * MS))

    @invariant()
    def the_same_has_fired_and_the_same_is_armed(self) -> None:
        if hasattr(self, "loop"):
            assert self.fired == self.oracle.fired
            assert [key for key, timer in enumerate(self.timers) if timer.armed] == sorted(self.oracle.armed)

    @invariant()
    def an_empty_wheel_has_no_timer_of_the_loop(self) -> None:
        if hasattr(self, "loop"):
            pending = [handle for handle in self.loop._scheduled if not handle.cancelled()]
            assert len(pending) == (1 if self.oracle.armed else 0)


TestTimersMachine = TimersMachine.TestCase
TestTimersMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
