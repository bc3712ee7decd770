"""OutcomeWindow against the list of all outcomes."""

from __future__ import annotations

import math
import sys
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oracles.window import ExactWindow
from resilio import OutcomeWindow

SECOND = 10**9
START = 2**50
outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12)


class WindowMachine(RuleBasedStateMachine):
    """A window and its oracle see the same outcomes, pauses, resets, and a clock that may step back."""

    @initialize(
        calls=st.one_of(st.none(), st.integers(1, 30)),
        span_ms=st.one_of(st.none(), st.sampled_from([1, 7, 60_000, 100_000])),
    )
    def begin(self, calls, span_ms):
        if calls is None and span_ms is None:
            calls = 5
        time = None if span_ms is None else f"{span_ms}ms"
        self.window = OutcomeWindow((calls, time) if calls and time else calls or time)
        self.exact = ExactWindow(calls, span_ms and span_ms * 10**6)
        self.step = (span_ms or 10) * 10**6 // 20
        self.now = START

    @rule(outcomes=outcomes)
    def record(self, outcomes):
        for failed, slow in outcomes:
            self.window.record(failed, slow, self.now)
            self.exact.record(self.now, failed, slow)

    @rule(twentieths=st.floats(0, 45), outcome=st.tuples(st.booleans(), st.booleans()))
    def pause(self, twentieths, outcome):
        self.now += int(twentieths * self.step)
        self.window.record(*outcome, self.now)
        self.exact.record(self.now, *outcome)

    @rule(buckets=st.integers(1, 21))
    def reach_the_edge_of_a_bucket(self, buckets):
        self.now = (self.now // self.step + buckets) * self.step

    @rule(ns=st.integers(1, 100 * SECOND), outcome=st.tuples(st.booleans(), st.booleans()))
    def step_back(self, ns, outcome):
        self.window.record(*outcome, self.now - ns)
        self.exact.record(self.now - ns, *outcome)

    @rule()
    def reset(self):
        self.window.reset()
        self.exact.reset()

    @precondition(lambda self: hasattr(self, "window"))
    @invariant()
    def agrees_with_the_oracle(self):
        assert self.window.counts(self.now) == self.exact.counts(self.now)


WindowMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
test_window_agrees_with_the_list_of_outcomes = WindowMachine.TestCase


@pytest.mark.parametrize("window", ["20s", timedelta(seconds=20), (10**4, "20s")])
def test_cb19_an_outcome_lives_for_its_span_less_at_most_a_twentieth(window):
    """CB-19: the window rolls over in twentieths, keeps its phase, and never counts what is older than the span."""
    for offset in range(0, SECOND, SECOND // 7):
        outcomes = OutcomeWindow(window)
        start = START // SECOND * SECOND + offset
        outcomes.record(True, now_ns=start)
        assert outcomes.counts(start + 19 * SECOND)[0] == 1
        assert outcomes.counts(start + 20 * SECOND)[0] == 0


def test_by_count_the_newest_pushes_the_oldest_out():
    """The last 3 calls are counted, however old they are."""
    window = OutcomeWindow(3)
    for failed in (True, True, False, False):
        window.record(failed, not failed, START)
    assert window.counts(START + 10**6 * SECOND) == (3, 1, 2)


def test_both_counts_the_last_calls_that_are_not_too_old():
    """(3, "20s"): three calls at most, none older than 20 s."""
    window = OutcomeWindow((3, "20s"))
    for second in range(0, 40, 8):
        window.record(True, now_ns=START + second * SECOND)
    assert window.counts(START + 32 * SECOND) == (3, 3, 0)
    assert window.counts(START + 40 * SECOND) == (2, 2, 0)
    assert window.counts(START + 53 * SECOND) == (0, 0, 0)


def test_rates_and_totals_follow_the_clock(vt):
    """The properties read the library's clock; rates are NaN while nothing is known."""
    window = OutcomeWindow("10s")
    assert math.isnan(window.failure_rate)
    assert math.isnan(window.slow_rate)
    for failed, slow in ((True, False), (True, True), (False, False), (True, False)):
        window.record(failed, slow)
    assert (window.total, window.failed, window.slow) == (4, 3, 1)
    assert (window.failure_rate, window.slow_rate) == (0.75, 0.25)
    assert "total=4 failed=3 slow=1" in repr(window)
    vt.advance(10)
    assert window.total == 0


def test_memory_of_the_breakers_default_window_is_below_600_bytes():
    """A window of 200 calls within 60 s needs less than 600 bytes, by time alone as well."""
    assert sys.getsizeof(OutcomeWindow((200, "60s"))) <= 600
    assert sys.getsizeof(OutcomeWindow("60s")) <= 640


@pytest.mark.parametrize(
    ("window", "error"),
    [
        (1.5, TypeError),
        (True, TypeError),
        (None, TypeError),
        (0, ValueError),
        (-1, ValueError),
        (10**7 + 1, ValueError),
        (10**30, ValueError),
        ("1ns", ValueError),
        ("0s", ValueError),
        ("soon", ValueError),
        (timedelta(seconds=-1), ValueError),
        (timedelta(days=10**5), ValueError),
        ((200, 300), ValueError),
        ((200, 60.0), TypeError),
        (("60s",), ValueError),
    ],
)
def test_bad_windows_are_named(window, error):
    """What is no window is rejected with the parameter's name and the value."""
    with pytest.raises(error, match=r"window must be .*not "):
        OutcomeWindow(window)


def test_bad_times_are_named():
    """A time out of range is rejected, and nothing is recorded."""
    window = OutcomeWindow(5)
    with pytest.raises(ValueError, match=r"now_ns must be .*not -1"):
        window.record(True, now_ns=-1)
    with pytest.raises(TypeError, match=r"now_ns must be .*not 1.5"):
        window.record(True, now_ns=1.5)
    assert window.total == 0


def test_outcomes_of_threads_are_all_counted(race):
    """Concurrent records lose nothing; the threads are seen to have interleaved."""
    window = OutcomeWindow("1d")

    def step() -> bool:
        before = window.counts(START)[0]
        window.record(True, True, START)
        return window.counts(START)[0] != before + 1

    steps = race(step)
    assert window.counts(START) == (steps, steps, steps)
