"""A state machine of the endpoints of a pool: added, removed, drained and weighed while calls are under way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio import Endpoint, NoEndpointError, pool, registry
from resilio.testing import virtual_time

NAMES = ["a", "b", "c", "d", "e"]
names = st.sampled_from(NAMES)


class Members(RuleBasedStateMachine):
    """The pool beside a dict of its endpoints."""

    @initialize()
    def begin(self) -> None:
        self.time = virtual_time()
        self.vt = self.time.__enter__()
        registry.clear()
        self.pool = pool("members")
        self.level: dict[str, int] = {}
        self.weight: dict[str, float] = {}
        self.drained: set[str] = set()
        self.held: list[tuple[Any, str]] = []
        self.calls = self.rejected = 0

    def teardown(self) -> None:
        if hasattr(self, "time"):
            while self.held:
                self.end(0)
            assert self.pool.snapshot().inflight == 0
            self.time.__exit__(None, None, None)

    @property
    def open(self) -> set[str]:
        """The endpoints that a call may go to: those of the lowest level that has any, since none of them fails."""
        ready = self.level.keys() - self.drained
        lowest = min((self.level[name] for name in ready), default=0)
        return {name for name in ready if self.level[name] == lowest}

    @rule(name=names, level=st.integers(0, 2), weight=st.sampled_from([0.5, 1.0, 3.0]))
    def add(self, name: str, level: int, weight: float) -> None:
        endpoint = Endpoint(name, level=level, weight=weight)
        if name in self.level:
            with pytest.raises(ValueError, match=f"'{name}'"):
                self.pool.add(endpoint)
        else:
            self.pool.add(endpoint)
            self.level[name], self.weight[name] = level, weight

    @rule(name=names)
    def remove(self, name: str) -> None:
        if self.known(self.pool.remove, name):
            del self.level[name], self.weight[name]
            self.drained.discard(name)

    @rule(name=names)
    def drain(self, name: str) -> None:
        if self.known(self.pool.drain, name):
            self.drained.add(name)

    @rule(name=names)
    def undrain(self, name: str) -> None:
        if self.known(self.pool.undrain, name):
            self.drained.discard(name)

    @rule(name=names, weight=st.sampled_from([0.1, 1.0, 10.0]))
    def weigh(self, name: str, weight: float) -> None:
        if self.known(self.pool.weigh, name, weight):
            self.weight[name] = weight

    def known(self, change: Any, name: str, *more: Any) -> bool:
        if name in self.level:
            change(name, *more)
            return True
        with pytest.raises(KeyError, match=f"'{name}'"):
            change(name, *more)
        return False

    @rule()
    def call(self) -> None:
        self.calls += 1
        if self.open:
            assert self.pool.call(lambda endpoint: endpoint.name) in self.open
            return
        self.rejected += 1
        with pytest.raises(NoEndpointError) as error:
            self.pool.call(lambda endpoint: endpoint.name)
        assert error.value.reason == ("drained" if self.level else "empty")

    @precondition(lambda self: len(self.held) < 4 and self.open)
    @rule()
    def hold(self) -> None:
        block = self.pool.pick()
        endpoint = block.__enter__()
        assert endpoint.name in self.open
        self.calls += 1
        self.held.append((block, endpoint.name))

    @precondition(lambda self: self.held)
    @rule(at=st.integers(0, 3))
    def end(self, at: int) -> None:
        block, _ = self.held.pop(at % len(self.held))
        block.__exit__(None, None, None)

    @rule(seconds=st.sampled_from([0.001, 0.1, 5.0]))
    def wait(self, seconds: float) -> None:
        self.vt.advance(seconds)

    @invariant()
    def what_is_shown_is_what_there_is(self) -> None:
        if not hasattr(self, "pool"):
            return
        shown = {one.name: one for one in self.pool.snapshot().endpoints}
        assert {one.name for one in self.pool.endpoints} == shown.keys() == self.level.keys()
        for name, one in shown.items():
            assert (one.level, one.weight) == (self.level[name], self.weight[name])
            assert (one.state == "drained") == (name in self.drained)
            assert (one.share == 0.0) == (name in self.drained)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Calls of endpoints that were removed still count, and those under way are under way somewhere."""
        if hasattr(self, "pool"):
            snapshot = self.pool.snapshot()
            assert (snapshot.calls, snapshot.rejected, snapshot.inflight) == (self.calls, self.rejected, len(self.held))


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
