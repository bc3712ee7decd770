"""Calls of a fleet that hang: they show an outage before their timeouts do, and open nothing by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from breakers_of_fleet import Processes

from resilio.sharing._fleet.ask_breaker import BY_CONSECUTIVE, CLOSED, OPEN, BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.rules import exchange
from resilio.sharing._fleet.rules.rows import State
from resilio.testing import virtual_time

TICK = 250_000


class Store:
    """A store, and askers that report to it; a tick ago all was well with them."""

    def __init__(self, askers: str, failing: int = 0, **options: Any) -> None:
        self.state: State | None = None
        self.now = 1_000_000_000
        self.options = {"tick_us": TICK, "window_calls": 0, **options}
        self.seq = self.generation = 0
        for _ in range(4):
            for asker in askers:
                self.report(asker, ok=50, failed=failing)
            self.now += TICK
        for asker in askers:
            self.report(asker)

    def report(self, asker: str, **fields: Any) -> BreakerAnswer:
        """Report in the store's generation."""
        self.seq += 1
        known = {"asker": ord(asker), "seq": self.seq, "generation": self.generation}
        self.state, answer = exchange(self.state, BreakerAsk(key="k", **{**self.options, **known, **fields}), self.now)
        assert isinstance(answer, BreakerAnswer)
        self.generation = answer.generation
        return answer


def test_calls_that_hang_weigh_no_more_than_what_has_failed() -> None:
    """A fleet whose calls all hung waited for ten timeouts, one after the other: now five are enough, and no fewer."""
    store = Store("abc")
    for asker in "abc":
        store.report(asker, late=20)
    assert [store.report(asker, failed=2, late=20).state for asker in "ac"] == [CLOSED, CLOSED]
    answer = store.report("b", failed=1, late=20)
    assert (answer.state, answer.reason, answer.measured) == (OPEN, BY_CONSECUTIVE, 5)


def test_few_calls_that_hang_count_as_few() -> None:
    """Two calls hang: of the ten, eight must have failed."""
    store = Store("abc")
    store.report("a", failed=3, late=1)
    store.report("b", failed=3, late=1)
    assert store.report("c", failed=1).state == CLOSED
    assert store.report("c", failed=1).state == OPEN


def test_calls_that_hang_open_nothing_by_themselves() -> None:
    """A pause of the dependency is no outage: where no call fails, all that hang together open nothing."""
    store = Store("abc")
    for _ in range(20):
        assert [store.report(asker, late=50).state for asker in "abc"] == [CLOSED] * 3
        store.now += TICK


@pytest.mark.parametrize(("failing", "state"), [(0, OPEN), (50, CLOSED)])
def test_calls_that_hang_are_no_proof(failing: int, state: int) -> None:
    """Six failures in a row are chance where half of the calls fail, however many hang."""
    store = Store("ab", failing)
    store.report("a", failed=3, late=20)
    assert store.report("b", failed=3, late=20).state == state


def test_calls_of_one_asker_that_hang_weigh_no_more_than_those_of_the_others() -> None:
    """E2: the network of one host is cut off, and a few calls of another one fail by chance."""
    store = Store("abc")
    store.report("a", failed=3, late=100)
    assert store.report("b", failed=3).state == CLOSED
    store.report("c", late=1)
    assert store.report("b").state == CLOSED
    assert store.report("b", late=1).state == OPEN


@pytest.mark.parametrize(("ticks", "state"), [(1, OPEN), (2, CLOSED)])
def test_what_was_reported_long_ago_is_over(ticks: int, state: int) -> None:
    """A process that is gone, or cut off, has reported calls that may have succeeded since."""
    store = Store("abcd")
    for asker in "cd":
        store.report(asker, late=20)
    store.now += ticks * TICK
    store.report("a", failed=3)
    assert store.report("b", failed=3).state == state


def test_a_number_that_is_given_is_taken_literally() -> None:
    """`consecutive=10` as an option is ten failures, whatever hangs."""
    store = Store("ab", sure=0, failed_share=0)
    store.report("a", failed=4, late=20)
    assert store.report("b", failed=4, late=20).state == CLOSED
    store.report("a", failed=1)
    assert store.report("b", failed=1).state == OPEN


# ---- with the gates and couriers ---------------------------------------------------------------------------------


@pytest.fixture
def vt() -> Any:
    with virtual_time() as vt:
        yield vt


def _hanging(vt: Any, seconds: float) -> tuple[Processes, list[Any]]:
    """Ten processes to which calls have succeeded, and a call of each that is under way for so long."""
    fleet = Processes(vt, 10)
    for _ in range(20):
        assert set(fleet.call()) == {"ok"}
    fleet.pass_time(1)
    permits = [process.breaker.try_acquire() for process in fleet.all]
    fleet.pass_time(seconds)
    return fleet, permits


def _five_fail(fleet: Processes, permits: list[Any]) -> bool:
    """Let five calls fail, and return whether the fleet has opened a little later; then let the others end."""
    for permit in permits[:5]:
        permit.failure(OSError())
    fleet.pass_time(0.04, 0.005)
    is_open = "open" in fleet.states
    for permit in permits[5:]:
        permit.ignore()
    return is_open


@pytest.mark.parametrize(("seconds", "opens"), [(1.0, True), (0.1, False)])
def test_a_fleet_whose_calls_hang_opens_after_half_as_many_failures(vt: Any, seconds: float, opens: bool) -> None:
    """When the first timeouts end, most calls of the fleet have hung for long: it need not wait for the others."""
    assert _five_fail(*_hanging(vt, seconds)) is opens


def test_a_success_after_a_call_began_is_no_silence(vt: Any) -> None:
    """The calls under way began before one that has succeeded: they are slow for themselves, and show no outage."""
    fleet, permits = _hanging(vt, 1.0)
    assert set(fleet.call()) == {"ok"}
    fleet.pass_time(1)
    assert not _five_fail(fleet, permits)


def test_calls_that_began_a_moment_ago_do_not_hang(vt: Any) -> None:
    """Where calls begin all the time, the latest one of a process is young, and what fails is seen soon anyway."""
    fleet, permits = _hanging(vt, 1.0)
    young = [process.breaker.try_acquire() for process in fleet.all]
    fleet.pass_time(0.2)
    assert not _five_fail(fleet, permits)
    for permit in young:
        permit.ignore()


def test_a_pause_without_failures_opens_nothing(vt: Any) -> None:
    """All calls of the fleet take 5 s, and succeed: the dependency was slow, not down."""
    fleet, permits = _hanging(vt, 0.0)
    for _ in range(20):
        fleet.pass_time(0.25)
        assert set(fleet.states) == {"closed"}
    for permit in permits:
        permit.success()
    fleet.pass_time(1)
    assert set(fleet.states) == {"closed"}
    assert set(fleet.call()) == {"ok"}
