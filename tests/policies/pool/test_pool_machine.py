"""A pool under any sequence of calls, rejections, drains and changes, against the invariants H1 to H5."""

from __future__ import annotations

import contextlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio import CircuitOpenError, Endpoint, RetryBudget, circuit_breaker, pipeline, pool, retry
from resilio.errors import NoEndpointError, RejectedError
from resilio.testing import virtual_time

ATTEMPTS = 4
OPEN_FOR = 1.0
NAMES = [f"e{at}" for at in range(8)]


class PoolMachine(RuleBasedStateMachine):
    """
    What holds for every call of a pool.

    H1: no endpoint is called twice by one call unless all that could be were tried. H2: no more attempts than the retry
    allows. H4: an endpoint that is open gets one probe an open time. H5 is in test_calls.py. Further: nothing is in
    flight between calls, a drained endpoint gets no call, and what is counted adds up.
    """

    def __init__(self):
        super().__init__()
        self.scope = contextlib.ExitStack()
        self.vt = self.scope.enter_context(virtual_time())
        self.calls = self.attempts = 0
        self.down = set()
        self.drained = set()
        self.opened = {}  # endpoint -> when its last probe failed

    def teardown(self):
        self.scope.close()

    @initialize(
        levels=st.lists(st.integers(0, 2), min_size=1, max_size=6),
        balance=st.sampled_from(["latency", "inflight", "order"]),
        spill=st.booleans(),
    )
    def begin(self, levels, balance, spill):
        self.spill = spill
        endpoints = [
            Endpoint(name, level=level, zone=f"z{at % 2}")
            for at, (name, level) in enumerate(zip(NAMES, levels, strict=False))
        ]
        self.pool = pool(
            None,
            *endpoints,
            balance=balance,
            spill=spill,
            each=lambda e: circuit_breaker(consecutive=3, open_for=OPEN_FOR, max_open_for=OPEN_FOR),
        )
        budget = RetryBudget(cap=10_000, initial=10_000)
        self.stack = pipeline(retry(on=OSError, attempts=ATTEMPTS, backoff=0, budget=budget), self.pool)

    def names(self):
        return {endpoint.name for endpoint in self.pool.endpoints}

    @rule()
    def call(self):
        tried = []
        open_before = {name for name in self.names() if self.pool[name].state == "open"}

        def work(*, endpoint):
            self.vt.advance(0.001)
            tried.append(endpoint.name)
            if endpoint.name in self.down:
                raise OSError("down")

        with contextlib.suppress(OSError, RejectedError):
            self.stack.call(work)
        self.calls += 1
        self.attempts += len(tried)
        assert len(tried) <= ATTEMPTS  # H2
        assert not set(tried) & self.drained
        usable = self.names() - self.drained - open_before
        if len(tried) != len(set(tried)):  # H1
            assert not self.spill or set(tried) >= {n for n in usable if self.pool[n].state == "closed"}
        for name in tried:
            if name in open_before and name in self.down:  # H4: a probe that failed
                now = self.vt.now
                assert now - self.opened.get(name, -10.0) >= 0.89 * OPEN_FOR
                self.opened[name] = now

    @rule(name=st.sampled_from(NAMES))
    def goes_down(self, name):
        self.down.add(name)

    @rule(name=st.sampled_from(NAMES))
    def comes_back(self, name):
        self.down.discard(name)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 5.0]))
    def time_passes(self, seconds):
        self.vt.advance(seconds)

    @precondition(lambda self: len(self.pool) > 1)
    @rule(at=st.integers(0, 7))
    def remove(self, at):
        name = sorted(self.names())[at % len(self.names())]
        self.pool.remove(name)
        self.drained.discard(name)
        self.opened.pop(name, None)

    @rule(name=st.sampled_from(NAMES), level=st.integers(0, 2))
    def add(self, name, level):
        if name not in self.names():
            self.pool.add(Endpoint(name, level=level))

    @rule(at=st.integers(0, 7))
    def drain(self, at):
        name = sorted(self.names())[at % len(self.names())]
        self.pool.drain(name)
        self.drained.add(name)

    @rule(at=st.integers(0, 7))
    def undrain(self, at):
        name = sorted(self.names())[at % len(self.names())]
        self.pool.undrain(name)
        self.drained.discard(name)

    @rule(at=st.integers(0, 7), weight=st.sampled_from([0.1, 1.0, 7.0]))
    def weigh(self, at, weight):
        self.pool.weigh(sorted(self.names())[at % len(self.names())], weight)

    @rule()
    def one_that_is_well_takes_the_call(self):
        """If an endpoint is closed and takes calls, and may be reached, no call is rejected."""
        well = {n for n in self.names() - self.drained if self.pool[n].state == "closed" and n not in self.down}
        if well and self.spill:
            assert self.pool.call(lambda endpoint: endpoint.name) in self.names() - self.drained
        elif not self.names() - self.drained:
            with contextlib.suppress(NoEndpointError):
                self.pool.call(lambda endpoint: endpoint)
                raise AssertionError("a pool without endpoints made a call")
        else:
            with contextlib.suppress(CircuitOpenError, NoEndpointError):
                self.pool.call(lambda endpoint: endpoint)
        self.calls += 1

    @invariant()
    def nothing_is_in_flight(self):
        if not hasattr(self, "pool"):
            return
        for stage in self.pool.gates:
            counters = stage.counters()
            assert counters["inflight"] == counters["queued"] == 0
        counters = self.pool._gate.counters()
        ended = sum(counters[name] for name in ("successes", "failures", "ignored", "rejected", "cancelled"))
        assert counters["calls"] == ended
        assert sum(self.pool._table.levels()) in (0, 100)


PoolMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
