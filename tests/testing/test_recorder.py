"""Recorded events, and the questions that tests ask of them."""

from __future__ import annotations

import pytest

from resilio import CircuitOpenError, bulkhead, circuit_breaker, pipeline
from resilio.events import Rejected, Settled, StateChanged
from resilio.testing import VirtualTime, record_events


def fail() -> None:
    """Raise."""
    raise OSError


def test_events_are_recorded_in_order(vt: VirtualTime) -> None:
    """A trip, a rejection, a probe and a recovery are all there, with their names and reasons."""
    breaker = circuit_breaker("payments", consecutive=1, open_for=1.0)
    with record_events() as events:
        with pytest.raises(OSError):
            breaker.call(fail)
        with pytest.raises(CircuitOpenError):
            breaker.call(fail)
        vt.advance(2)
        for _ in range(2):
            breaker.call(lambda: None)
    assert events.states("payments") == ["open", "half_open", "closed"]
    assert events.reasons("payments") == {"open": 1}
    assert events.outcomes() == {"failure": 1, "success": 2}
    assert events.states("other") == []
    times = [event.at_ns for event in events]
    assert times == sorted(times)


def test_recording_ends_with_the_block_and_may_be_narrow() -> None:
    """Only the policy and the kinds asked for are recorded, and nothing after the block."""
    first, second = circuit_breaker("first", consecutive=1), circuit_breaker("second", consecutive=1)
    with record_events(first, kinds=[StateChanged]) as events:
        for breaker in (first, second):
            with pytest.raises(OSError):
                breaker.call(fail)
    first.reset()
    assert [type(event) for event in events] == [StateChanged]
    assert (events.of(Rejected), events.of(Settled), events.states()) == ([], [], ["open"])


def test_policies_made_later_are_recorded_too() -> None:
    """A policy made inside the block is covered."""
    with record_events() as events:
        circuit_breaker("late").call(lambda: None)
    assert events.outcomes("late") == {"success": 1}


def test_policies_of_one_name_are_told_apart_by_kind() -> None:
    """What a retry and a breaker called "payments" have told is not one policy's."""
    breaker, pool = circuit_breaker("payments"), bulkhead(3, name="payments")
    with record_events() as events:
        pipeline(breaker, pool).call(int)
    assert events.outcomes("payments") == {"success": 2}
    assert events.outcomes("circuit_breaker:payments") == {"success": 1}
    assert events.outcomes("bulkhead:payments") == {"success": 1}
