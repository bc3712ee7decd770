"""The native breaker's probabilistic mode against its oracle, over random histories."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, multiple, precondition, rule
from policies.circuit_breaker.test_breaker_machine import BreakerMachine, configuration, options

from oracles.breaker import SECOND, xorshift
from oracles.throttle import ThrottleOracle
from resilio._native import clock
from resilio._policies.circuit_breaker.policy import CircuitBreaker


class ThrottleMachine(BreakerMachine):
    """All that holds of the breaker, and every draw of the throttle and every overdue call are the oracle's."""

    @initialize(
        chosen=options,
        enforce=st.sampled_from([True, True, True, False]),
        initial=st.sampled_from(["closed"] * 6 + ["forced_closed"]),
        seed=st.integers(1, 2**64 - 1),
    )
    def make(self, chosen, enforce, initial, seed):
        self.breaker = CircuitBreaker(configuration(chosen, enforce, initial, mode="probabilistic"))
        self.breaker._gate._seed(seed)
        self.oracle = ThrottleOracle(
            chosen,
            xorshift(seed),
            enforce=enforce,
            state=initial,
            p99_ns=self.p99_ns,
            p50_ns=self.p50_ns,
        )
        self.events = []
        self.unsubscribe = self.breaker.on_event(self.events.append)

    @rule(outcomes=st.lists(st.sampled_from(["success", "failure", "failure"]), min_size=5, max_size=30))
    def a_partial_failure(self, outcomes):
        for outcome in outcomes:
            self.end(self.ask(), outcome)

    @rule(target=BreakerMachine.calls, times=st.integers(1, 3), ns=st.sampled_from([SECOND, SECOND + 1, 3 * SECOND]))
    def calls_that_hang(self, times, ns):
        hanging = [self.ask() for _ in range(times)]
        self.now_ns += ns
        clock.set_virtual(self.now_ns)
        return multiple(*hanging, self.ask())

    @precondition(lambda self: self.oracle.half_end_ns > self.now_ns)
    @rule(off_by=st.sampled_from([-1, 0, 1]))
    def advance_to_the_end_of_the_half_period(self, off_by):
        self.now_ns = max(self.now_ns, self.oracle.half_end_ns + off_by)
        clock.set_virtual(self.now_ns)

    @invariant()
    def agree(self):
        if not hasattr(self, "oracle"):
            return
        oracle, seen = self.oracle, self.breaker.snapshot()
        window = oracle.window(self.now_ns)
        assert seen.state == shown(oracle.state)
        assert (seen.generation, seen.overdue) == (oracle.generation, oracle.overdue)
        assert (seen.consecutive, seen.stale) == (oracle.in_a_row, oracle.stale)
        assert (seen.window_calls, seen.window_failures) == (len(window), sum(failed for _, failed, _ in window))
        assert (seen.probes, seen.probes_succeeded) == (len(oracle.leases), oracle.proven)
        changes = [(shown(old), shown(new), reason) for old, new, reason in oracle.changes]
        assert [(event.old, event.new, event.reason) for event in self.events] == changes
        assert 0 <= seen.share <= 1
        if oracle.state == "throttling" and oracle.ramp_end_ns is None:
            assert seen.share == oracle.share(self.now_ns)


def shown(state):
    """The state's name to users."""
    return "half_open" if state == "throttling" else state


TestThrottleMachine = ThrottleMachine.TestCase
TestThrottleMachine.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
