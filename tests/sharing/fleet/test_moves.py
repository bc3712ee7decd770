"""Policies that leave their fleet while an answer is under way: it goes into no other fleet's memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from resilio import RetryBudget
from resilio._policies.circuit_breaker.config import CircuitBreakerConfig
from resilio._policies.circuit_breaker.policy import CircuitBreaker
from resilio._policies.rate_limit.policy import RateLimit, RateLimitConfig
from resilio._policies.retry.budget import RetryBudgetConfig
from resilio.sharing import Answer, Ask, Fleet, MemoryEngine, StoreProblem
from resilio.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")


class SlowStore(MemoryEngine):
    """A store during whose next answer something else is done."""

    meanwhile: Callable[[], object] | None = None

    def exchange(self, asks: Sequence[Ask], timeout: float) -> Sequence[Answer | StoreProblem]:
        answers = super().exchange(asks, timeout)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return answers


def trip(fleet: Fleet) -> int:
    """Make the trip that is due, and return how many have been made."""
    fleet.step()
    trips: int = fleet.courier.trips
    return trips


def pass_time(vt: VirtualTime, *fleets: Fleet) -> None:
    """Let two seconds pass, in which these fleets make their trips."""
    for _ in range(8):
        vt.advance(0.25)
        for fleet in fleets:
            fleet.step()


def test_a_grant_under_way_goes_into_no_other_fleets_purse() -> None:
    """
    A limit that had moved to another fleet spent what the first one's store had granted to it.

    The courier knew its leases by their address, and the next leases of the process have the same one. It wrote into
    memory that had been freed when the limit had moved to its host, and the process crashed.
    """
    store, other = SlowStore(), MemoryEngine()
    one, two = Fleet("one", store, is_stepped=True), Fleet("two", other, is_stepped=True)
    for scope in (two, "host"):
        with virtual_time() as vt:
            options: Any = {"rates": ("100/s",), "scope": one}
            limit: Any = RateLimit(RateLimitConfig(**options), "orders")
            for _ in range(40):
                vt.advance(0.5)
                tie, trips = limit._link.tie, trip(one)
                store.meanwhile = partial(limit.reconfigure, scope=scope)
                while trip(one) == trips:
                    limit.try_acquire()
                    vt.advance(0.05)
                assert not tie.is_used
                sharing = limit.snapshot().sharing
                assert scope == "host" or sharing.outstanding == 0, "its own store has granted nothing yet"
                limit.reconfigure(scope=one)
            limit.reconfigure(scope="process")


def test_a_grant_under_way_goes_into_no_other_reserve() -> None:
    """The reserve of a retry budget was mistaken for another fleet's in the same way."""
    store = SlowStore()
    one, two = Fleet("one", store, is_stepped=True), Fleet("two", MemoryEngine(), is_stepped=True)
    with virtual_time() as vt:
        budget: Any = RetryBudget._new(RetryBudgetConfig(reserve=100, initial=0.0, ratio=0.0, scope=one), "calls")
        for _ in range(40):
            vt.advance(0.5)
            tie, trips = budget._link.tie, trip(one)
            store.meanwhile = lambda: budget.reconfigure(scope=two)
            while trip(one) == trips:
                vt.advance(0.05)
            assert not tie.is_used
            assert budget._link.tie.outstanding == 0
            budget.reconfigure(scope=one)


def test_a_verdict_under_way_opens_no_other_fleets_breaker() -> None:
    """A breaker that had moved to another fleet took the first one's answer there, and all breakers there opened."""
    store = SlowStore()
    one, two = Fleet("one", store, is_stepped=True), Fleet("two", MemoryEngine(), is_stepped=True)
    peers = [Fleet("one", store, is_stepped=True) for _ in range(3)]
    with virtual_time() as vt:
        moves, stays, *failing = (_breaker(fleet) for fleet in (one, two, *peers))
        pass_time(vt, one, two, *peers)
        for breaker in failing * 3:
            with pytest.raises(OSError, match="failed"):
                breaker.call(_fail)
        pass_time(vt, two, *peers)
        assert {breaker.state for breaker in failing} == {"open"}
        assert (moves.state, stays.state) == ("closed", "closed")
        store.meanwhile, trips = lambda: moves.reconfigure(scope=two), one.courier.trips
        while trip(one) == trips:
            vt.advance(0.05)
        assert stays.state == "closed", "no call of its own fleet has failed"


def _breaker(fleet: Fleet) -> Any:
    options: Any = {"min_calls": 4, "consecutive": None, "open_for": 60, "scope": fleet}
    return CircuitBreaker(CircuitBreakerConfig(**options), "payments")


def _fail() -> None:
    raise OSError("failed")
