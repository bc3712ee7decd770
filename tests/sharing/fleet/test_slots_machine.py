"""
A fleet's bulkhead under all that networks, stores and hosts do: G1 after every step, against a log of what happened.

The policies, couriers and rules are the real ones, on the virtual clock. The oracle knows calls, and when each host has
been answered. A call without a lease of its host, because that had not been answered yet or had ended, is none of the
fleet's: all others are never more than the capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from bulkheads_of_fleet import Host, Hosts
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio._native.clock import now_ns
from resilio.sharing import Answer, Ask, StoreProblem
from resilio.testing import virtual_time

TTL_NS = 10_000_000_000
MOST = 5
FATES = ["", "", "asks", "answers"]


class Watched:
    """A host's way to the store that notes when an answer arrived."""

    def __init__(self, host: Host) -> None:
        self._wire = host.wire
        self.heard_ns: int | None = None
        host.fleet.engine = self

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        answers: Sequence[Answer | StoreProblem] = self._wire.exchange(asks, timeout)
        self.heard_ns = now_ns()
        return answers


class Fleets(RuleBasedStateMachine):
    """Up to five hosts, which come and die, and a store that they cannot always reach."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.vt = self.stack.enter_context(virtual_time())
        self.apart: dict[Host, int] = {}  # oldest calls of each host that no lease covers any more
        self.ways: dict[Host, Watched] = {}

    def teardown(self) -> None:
        self.stack.close()

    @initialize(capacity=st.sampled_from([2, 12, 40]), hosts=st.integers(1, 3), weight=st.sampled_from([1, 1, 2]))
    def begins(self, capacity: int, hosts: int, weight: int) -> None:
        self.capacity, self.weight = capacity, weight
        self.fleet = Hosts(self.vt, 0, capacity, on_store_down="closed", weight=weight)
        for _ in range(hosts):
            self.comes()

    def comes(self) -> None:
        """One more host."""
        host = self.fleet.one_more()
        self.fleet.all.append(host)
        self.ways[host] = Watched(host)
        self.apart[host] = 0

    @precondition(lambda self: len(self.fleet.all) < MOST)
    @rule()
    def a_host_comes(self) -> None:
        self.comes()

    @precondition(lambda self: len(self.fleet.all) > 1)
    @rule(which=st.integers(0, MOST))
    def a_host_dies(self, which: int) -> None:
        self.fleet.all.pop(which % len(self.fleet.all))

    @rule(which=st.integers(0, MOST), n=st.integers(1, 12))
    def calls_begin(self, which: int, n: int) -> None:
        host = self.fleet.all[which % len(self.fleet.all)]
        heard_ns = self.ways[host].heard_ns
        began = host.begin(n)
        if heard_ns is None:
            self.apart[host] += began
            assert self.apart[host] <= 1, "before the first answer a host has one call"
        elif now_ns() >= heard_ns + TTL_NS:
            assert began == 0, "without a lease no call is admitted"

    @rule(which=st.integers(0, MOST), n=st.integers(1, 12))
    def calls_end(self, which: int, n: int) -> None:
        host = self.fleet.all[which % len(self.fleet.all)]
        host.end(n)
        self.apart[host] = max(0, self.apart[host] - n)

    @rule(which=st.integers(0, MOST), fate=st.sampled_from(FATES))
    def the_network_changes(self, which: int, fate: str) -> None:
        self.fleet.all[which % len(self.fleet.all)].wire.loses = fate

    @rule(steps=st.sampled_from([1, 1, 5, 20, 60]))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.fleet.pass_time(0.05)
            for host in self.fleet.all:
                heard_ns = self.ways[host].heard_ns
                if heard_ns is not None and now_ns() >= heard_ns + TTL_NS:
                    self.apart[host] = host.used

    @rule()
    def the_store_is_flushed(self) -> None:
        """Those that hold leases ask before others do: a new host that came first would find a new store."""
        if all(host.sharing.age is not None and host.sharing.age < 5 for host in self.fleet.all):
            self.fleet.store.evict()
            for host in self.fleet.all:
                host.wire.loses = ""
            self.time_passes(80)

    @invariant()
    def calls_are_no_more_than_there_are(self) -> None:
        """G1."""
        covered = sum(host.used - self.apart[host] for host in self.fleet.all)
        assert covered * self.weight <= self.capacity, [(host.used, self.apart[host]) for host in self.fleet.all]


Fleets.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestSlots = Fleets.TestCase
