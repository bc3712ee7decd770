"""The native breaker against its oracle, over random histories."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from oracles.breaker import BUCKETS, SECOND, BreakerOracle, Options, Rejected, Ticket, xorshift
from resilio._native import clock
from resilio._policies.circuit_breaker.policy import CircuitBreaker, CircuitBreakerConfig

MS = SECOND // 1000


def maybe(values):
    """One of the values, or off."""
    return st.none() | values


any_options = st.builds(
    Options,
    failure_rate=st.sampled_from([0.2, 0.5, 0.7, 1.0, None]),
    slow_rate=st.sampled_from([0.3, 1.0]),
    min_calls=st.integers(1, 6),
    consecutive=maybe(st.integers(1, 5)),
    slow_ns=maybe(st.sampled_from([MS, 200 * MS])),
    open_ns=st.sampled_from([MS, 200 * MS]),
    max_open_ns=st.sampled_from([200 * MS, 3 * SECOND]),
    lease_ns=st.sampled_from([20 * MS, 500 * MS, 5 * SECOND]),
    ramp_ns=maybe(st.sampled_from([300 * MS, 2 * SECOND])),
    probes=st.integers(1, 4),
    closing=maybe(st.integers(1, 4)),
    window_calls=st.sampled_from([6, 9, 40]),
    window_ns=maybe(st.sampled_from([MS, 400 * MS, 2 * SECOND])),
) | st.builds(
    Options,
    min_calls=st.integers(1, 6),
    lease_ns=st.just(SECOND),
    window_calls=st.none(),
    window_ns=st.sampled_from([400 * MS, 2 * SECOND]),
)
sure_options = st.builds(
    Options,
    sure=st.just(True),
    failure_rate=st.just(0.9),
    min_calls=st.integers(1, 20),
    lease_ns=st.just(SECOND),
    probes=st.integers(1, 4),
    window_calls=st.sampled_from([20, 200]),
    window_ns=maybe(st.sampled_from([400 * MS, 60 * SECOND])),
)
options = any_options.filter(
    lambda chosen: (
        (chosen.failure_rate or chosen.consecutive or chosen.slow_ns) and (chosen.closing or 1) <= chosen.probes
    )
)


def configuration(chosen, enforce, initial, mode="window"):
    """The oracle's options as the policy's."""
    calls, ns = chosen.window_calls, chosen.window_ns
    window = calls if ns is None else f"{ns}ns" if calls is None else (calls, f"{ns}ns")
    rules = {} if chosen.sure else {"failure_rate": chosen.failure_rate, "consecutive": chosen.consecutive}
    return CircuitBreakerConfig(
        **rules,
        slow_rate=chosen.slow_rate,
        min_calls=chosen.min_calls,
        slow_call=seconds(chosen.slow_ns),
        open_for=seconds(chosen.open_ns),
        max_open_for=seconds(chosen.max_open_ns),
        probes=chosen.probes,
        closing_probes=chosen.closing,
        probe_lease=seconds(chosen.lease_ns),
        ramp=seconds(chosen.ramp_ns),
        window=window,
        enforce=enforce,
        initial=initial,
        mode=mode,
    )


def seconds(ns):
    """Nanoseconds as the user's seconds; None stays None."""
    return None if ns is None else ns / SECOND


class BreakerMachine(RuleBasedStateMachine):
    """Every answer, every change of state and every figure of the snapshot is the oracle's."""

    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.now_ns = SECOND
        clock.set_virtual(self.now_ns)

    @initialize(
        chosen=options | sure_options,
        enforce=st.sampled_from([True, True, True, False]),
        initial=st.sampled_from(["closed"] * 4 + ["forced_open", "forced_closed", "disabled"]),
        seed=st.integers(1, 2**64 - 1),
    )
    def make(self, chosen, enforce, initial, seed):
        self.oracle = BreakerOracle(chosen, xorshift(seed), enforce=enforce, state=initial)
        self.oracle.p99_ns, self.oracle.p50_ns = self.p99_ns, self.p50_ns
        self.breaker = CircuitBreaker(configuration(chosen, enforce, initial))
        self.breaker._gate._seed(seed)
        self.events = []
        self.unsubscribe = self.breaker.on_event(self.events.append)

    def p99_ns(self):
        """The 99th percentile of the latencies that the breaker has seen."""
        seen = self.breaker.latency
        return round(seen.quantile(0.99) * SECOND) if seen.count else 0

    def p50_ns(self):
        """Their median."""
        seen = self.breaker.latency
        return round(seen.quantile(0.5) * SECOND) if seen.count else 0

    def teardown(self):
        if hasattr(self, "unsubscribe"):
            self.unsubscribe()
        clock.clear_virtual()

    @rule(ns=st.sampled_from([1, MS, 19 * MS, 100 * MS, 200 * MS, SECOND]) | st.integers(0, 4 * SECOND))
    def advance(self, ns):
        self.now_ns += ns
        clock.set_virtual(self.now_ns)

    @precondition(lambda self: self.moments())
    @rule(data=st.data(), off_by=st.sampled_from([-1, 0, 0, 1]))
    def advance_to_a_moment_that_matters(self, data, off_by):
        self.now_ns = max(self.now_ns, data.draw(st.sampled_from(self.moments())) + off_by)
        clock.set_virtual(self.now_ns)

    def moments(self):
        """When something is due: an open time, a lease, a ramp, a bucket of the window."""
        oracle, chosen = self.oracle, self.oracle.options
        due = [*oracle.leases.values(), oracle.ramp_end_ns or 0]
        if oracle.ramp_end_ns:
            due.append((self.now_ns + oracle.ramp_end_ns) // 2)
        if oracle.state == "open":
            due.append(oracle.until_ns)
        if chosen.window_ns and oracle.outcomes:
            width = max(1, chosen.window_ns // BUCKETS)
            due += [(at // width + BUCKETS) * width for at in (oracle.outcomes[0][0], oracle.outcomes[-1][0])]
        return sorted({moment for moment in due if moment > self.now_ns})

    @rule(target=calls)
    def admit(self):
        return self.ask()

    def ask(self):
        expected = self.oracle.admit(self.now_ns)
        answer = self.breaker.try_acquire()
        note(f"{expected} {answer}")
        assert answer.admitted == isinstance(expected, Ticket)
        if isinstance(expected, Rejected):
            assert answer.reason == expected.reason
            waits = answer.retry_after
            assert (waits is None) == (expected.retry_after_ns is None)
            assert waits is None or (waits > 0 and round(waits * SECOND) == expected.retry_after_ns)
            return None
        return answer, expected, self.now_ns

    @rule(call=consumes(calls), outcome=st.sampled_from(["success", "failure", "failure", "ignored"]))
    def settle(self, call, outcome):
        self.end(call, outcome)

    def end(self, call, outcome):
        if call is None:
            return
        permit, ticket, since_ns = call
        {"success": permit.success, "failure": permit.failure, "ignored": permit.ignore}[outcome]()
        self.oracle.settle(ticket, outcome, self.now_ns - since_ns, self.now_ns)  # after: it knows this latency too

    @rule(outcome=st.sampled_from(["success", "failure"]), times=st.integers(2, 12))
    def several_calls(self, outcome, times):
        for _ in range(times):
            self.end(self.ask(), outcome)

    @precondition(lambda self: self.oracle.options.sure)
    @rule(failing=st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]), times=st.integers(10, 80), draw=st.randoms())
    def calls_of_which_a_part_fails(self, failing, times, draw):
        for _ in range(times):
            self.end(self.ask(), "failure" if draw.random() < failing else "success")

    @precondition(lambda self: self.oracle.state == "open")
    @rule(outcomes=st.lists(st.sampled_from(["success", "success", "success", "failure", "ignored"]), max_size=4))
    def probe(self, outcomes):
        self.now_ns = max(self.now_ns, self.oracle.until_ns)
        clock.set_virtual(self.now_ns)
        for outcome in outcomes:
            self.end(self.ask(), outcome)

    @precondition(lambda self: self.oracle.options.slow_ns)
    @rule(outcome=st.sampled_from(["success", "failure"]), off_by=st.sampled_from([0, 1]), times=st.integers(1, 8))
    def calls_about_as_long_as_slow(self, outcome, off_by, times):
        together = [self.ask() for _ in range(times)]
        self.now_ns += self.oracle.options.slow_ns + off_by
        clock.set_virtual(self.now_ns)
        for call in together:
            self.end(call, outcome)

    @rule(
        outcomes=st.lists(st.sampled_from(["success", "failure", "failure", "ignored", None]), min_size=2, max_size=30),
        order=st.randoms(use_true_random=False),
        apart=st.sampled_from([0, MS, 200 * MS]),
    )
    def calls_that_overlap(self, outcomes, order, apart):
        together = [(self.ask(), outcome) for outcome in outcomes]
        order.shuffle(together)
        for call, outcome in together:
            self.now_ns += apart
            clock.set_virtual(self.now_ns)
            self.give_up(call) if outcome is None else self.end(call, outcome)

    @rule(call=consumes(calls))
    def leave(self, call):
        self.leave_it(call)

    def leave_it(self, call):
        if call is not None:
            permit, ticket, since_ns = call
            permit.raised(asyncio.CancelledError())
            self.oracle.leave(ticket, self.now_ns - since_ns, self.now_ns)

    @rule(
        before=st.integers(0, 30),
        times=st.integers(5, 25),
        apart=st.sampled_from([9 * MS, 10 * MS, 40 * MS]),
        after=st.sampled_from([200 * MS, 251 * MS, SECOND]),
    )
    def callers_that_all_leave(self, before, times, apart, after):
        for _ in range(before):
            self.end(self.ask(), "success")
        together = [self.ask() for _ in range(times)]
        self.now_ns += after
        for call in together:
            self.now_ns += apart
            clock.set_virtual(self.now_ns)
            self.leave_it(call)

    @rule(call=consumes(calls))
    def cancel(self, call):
        self.give_up(call)

    def give_up(self, call):
        if call is not None:
            permit, ticket, _ = call
            self.oracle.cancel(ticket)
            permit.cancel()

    @rule(state=st.sampled_from(["closed", "half_open", "forced_open", "forced_closed", "disabled"]))
    def force(self, state):
        self.oracle.force(state)
        changes = {"closed": "reset", "forced_open": "force_open", "disabled": "disable", "half_open": "half_open"}
        getattr(self.breaker, changes.get(state, "force_closed"))()

    @rule(ns=st.sampled_from([MS, 200 * MS, 2 * SECOND]))
    def force_open_for_a_time(self, ns):
        self.oracle.force("forced_open", self.now_ns + ns)
        self.breaker.force_open(ns / SECOND)

    @rule(ns=st.sampled_from([MS, SECOND, 10 * SECOND]))
    def extend_open(self, ns):
        self.oracle.extend_open(ns, self.now_ns)
        self.breaker._gate.extend_open(ns / SECOND)

    @invariant()
    def agree(self):
        if not hasattr(self, "oracle"):
            return
        oracle, seen = self.oracle, self.breaker.snapshot()
        window = oracle.window(self.now_ns)
        assert seen.state == oracle.state
        assert seen.generation == oracle.generation
        assert (seen.consecutive, seen.stale) == (oracle.in_a_row, oracle.stale)
        counted = (len(window), sum(failed for _, failed, _ in window), sum(slow for *_, slow in window))
        assert (seen.window_calls, seen.window_failures, seen.window_slow) == counted
        assert (seen.probes, seen.probes_succeeded) == (len(oracle.leases), oracle.proven)
        assert [(event.old, event.new, event.reason) for event in self.events] == oracle.changes
        ended = seen.successes + seen.failures + seen.ignored + seen.cancelled
        assert seen.inflight + ended + seen.rejected == seen.calls or not oracle.enforce


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(
    max_examples=250, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
