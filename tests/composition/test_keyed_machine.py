"""Keys that come and go, against a policy for each key that stays: nobody can tell the difference."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio import bulkhead, circuit_breaker, keyed, pipeline
from resilio._native import clock

SECOND = 10**9
KEYS = st.integers(0, 11)


def make():
    """A breaker and a bulkhead; its open time is 10 s less jitter, which makes no difference at whole seconds."""
    breaker = circuit_breaker(consecutive=2, window=(5, "30s"), min_calls=4, open_for=10.0, max_open_for=10.0)
    return pipeline(breaker, bulkhead(2))


def known(policy):
    """All that decides about calls."""
    breaker, pool = policy.policies
    status = breaker.gates[0].status()
    fields = ("state", "window_calls", "window_failures", "consecutive", "probes", "probes_succeeded")
    return {field: status[field] for field in fields} | {"used": pool.used}


class KeyedMachine(RuleBasedStateMachine):
    """A bounded keyed policy, and as its oracle a dict that forgets nothing, see the same calls."""

    def __init__(self) -> None:
        super().__init__()
        self.now = SECOND
        clock.set_virtual(self.now)

    def teardown(self) -> None:
        clock.clear_virtual()

    @initialize(max_keys=st.integers(1, 6), idle=st.sampled_from([1.0, 20.0, 1000.0]))
    def begin(self, max_keys, idle):
        self.keyed = keyed(make, key=lambda key: key, max_keys=max_keys, idle=idle)
        self.max_keys = max_keys
        self.oracle = {}
        self.held = []
        self.asked = 0

    @rule(seconds=st.sampled_from([1, 5, 10, 31, 100]))
    def wait(self, seconds):
        self.now += seconds * SECOND
        clock.set_virtual(self.now)

    @rule(key=KEYS, good=st.booleans(), times=st.integers(1, 3))
    def call(self, key, good, times):
        for _ in range(times):
            permit, twin = self.acquire(key)
            end(permit, good)
            end(twin, good)

    @precondition(lambda self: len(self.held) < 8)
    @rule(key=KEYS)
    def hold(self, key):
        self.held.append(self.acquire(key))

    @rule(bad=KEYS)
    def crowd(self, bad):
        """All come, after so long that most are as new; one of them fails."""
        self.wait(100)
        for key in range(12):
            self.call(key, key != bad, 1)

    @precondition(lambda self: self.held)
    @rule(good=st.booleans(), data=st.data())
    def release(self, good, data):
        permit, twin = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        end(permit, good)
        end(twin, good)

    @precondition(lambda self: len(self.keyed))
    @rule()
    def look_up(self):
        """The hand goes round as keys are looked up."""
        key = next(iter(self.keyed))
        for _ in range(300):
            self.keyed[key]

    def acquire(self, key):
        """Ask both; a key that has found no room has no oracle."""
        permit = self.keyed.try_acquire(key)
        self.asked += 1
        if key not in self.keyed:
            return permit, None
        twin = self.oracle.setdefault(key, make()).try_acquire()
        assert bool(permit) == bool(twin)
        return permit, twin

    @invariant()
    def keys_know_what_their_oracle_knows(self):
        for key, policy in self.keyed.items() if hasattr(self, "keyed") else ():
            if key in self.oracle:
                assert known(policy) == known(self.oracle[key])

    @invariant()
    def what_is_not_there_is_as_new(self):
        if hasattr(self, "keyed"):
            new = known(make())
            for key, policy in self.oracle.items():
                assert key in self.keyed or known(policy) == new

    @invariant()
    def it_is_bounded_and_counts_all(self):
        if hasattr(self, "keyed"):
            assert len(self.keyed) <= self.max_keys
            assert self.keyed.snapshot().calls == self.asked


def end(permit, good):
    """End a permit, if it is one."""
    if permit:
        permit.success() if good else permit.failure(OSError())


KeyedMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestKeyed = KeyedMachine.TestCase
