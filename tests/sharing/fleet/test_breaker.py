"""Circuit breakers of a fleet: what all have seen opens for all, one call probes for all, none waits for a store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from breakers_of_fleet import Processes

from resilio import CircuitOpenError, Endpoint, circuit_breaker, events, pool
from resilio._native.clock import now_ns
from resilio.sharing import MemoryEngine
from resilio.sharing._fleet.ask_breaker import BreakerAsk
from resilio.testing import virtual_time


@pytest.fixture
def vt() -> Any:
    with virtual_time() as vt:
        yield vt


def test_an_outage_opens_for_all_after_a_few_calls_of_each(vt: Any) -> None:
    """E3: each process would need ten failures of its own; together they need ten, and two ticks."""
    fleet = Processes(vt, 20)
    fleet.call(fails=True)
    fleet.pass_time(0.6)
    assert fleet.sent == 20
    assert set(fleet.call(fails=True)) <= {"fleet: open", "fleet: probing"}
    assert fleet.sent == 20


def test_a_failure_is_reported_early_and_failures_cost_no_trips(vt: Any) -> None:
    """An outage waited for the tick of each process. Where calls fail all the time, trips are still one a tick."""
    fleet = Processes(vt, 1)
    process = fleet.all[0]

    def trips_of(fails: bool) -> int:
        before = process.fleet.courier.trips
        for i in range(1000):
            process.call(fails=fails and i % 2 == 1)
            fleet.pass_time(0.01, 0.01)
        return process.fleet.courier.trips - before

    assert 34 <= trips_of(fails=False) <= 45
    assert 34 <= trips_of(fails=True) <= 45
    assert process.breaker.state == "closed"


def test_the_first_failure_after_a_quiet_time_is_reported_at_once(vt: Any) -> None:
    """Half a tick was too long for what is news: it is an eighth after the report before, a quarter, then halves."""
    fleet = Processes(vt, 20)
    began_ns = now_ns()
    fleet.call(fails=True)
    fleet.pass_time(0.04, 0.005)
    assert min(process.fleet.courier.answered_ns for process in fleet.all) >= began_ns
    assert "open" in fleet.states


def test_the_first_item_of_a_stream_is_the_verdict_of_a_probe(vt: Any) -> None:
    """A probe that is a stream may last for minutes: its first item closes the breaker of all."""
    fleet = Processes(vt, 4, open_for=1, max_open_for=1).opened()

    def items() -> Iterator[int]:
        yield from range(2)

    begun: list[Iterator[int]] = []
    for _ in range(100):
        for process in fleet.all:
            stream = process.breaker(items)()
            with contextlib.suppress(CircuitOpenError):
                assert next(stream) == 0
                begun.append(stream)
        if begun:
            break
        fleet.pass_time(0.1)
    assert len(begun) == 1
    fleet.pass_time(2)
    assert set(fleet.states) <= {"closed", "recovering"}
    assert list(begun[0]) == [1]


def test_a_pool_leaves_an_endpoint_that_the_fleet_has_found_failing(vt: Any) -> None:
    """This process has seen no failure there: without the fleet's word its calls would be rejected first."""
    fleet = Processes(vt, 4, open_for=60, max_open_for=60)
    found, other = fleet.all[0].breaker, circuit_breaker()
    both = pool(None, Endpoint("a"), Endpoint("b"), each=lambda endpoint: found if endpoint.name == "a" else other)
    assert {both.call(lambda endpoint: endpoint.name) for _ in range(50)} == {"a", "b"}
    for _ in range(20):
        for process in fleet.all[1:]:
            process.call(fails=True)
        fleet.pass_time(0.1)
    assert found.state == "open"
    before = found.snapshot().rejected
    assert {both.call(lambda endpoint: endpoint.name) for _ in range(50)} == {"b"}
    assert found.snapshot().rejected <= before + 1


def test_a_rejection_names_the_fleet_and_what_it_has_measured(vt: Any) -> None:
    """What rejects here was seen by others: the message must not send the reader to this process's numbers."""
    fleet = Processes(vt, 4, open_for=2, max_open_for=2).opened()
    permit = fleet.all[0].breaker.try_acquire()
    assert not permit
    rejection = permit.error
    assert rejection.scope == "fleet"
    assert rejection.reason == "open"
    assert rejection.measured is not None
    assert rejection.measured >= rejection.limit == 10
    assert 0 < rejection.retry_after <= 2
    assert "of this fleet" in str(rejection)


def test_a_process_whose_own_calls_fail_opens_for_itself(vt: Any) -> None:
    """E1, E2: one broken host of ten has its own breaker open; the others do not notice."""
    fleet = Processes(vt, 10)
    broken, *well = fleet.all
    for _ in range(100):
        broken.call(fails=True)
        for process in well:
            assert process.call() == "ok"
        fleet.pass_time(0.05)
    assert broken.sent < 60
    assert broken.call(fails=True).startswith(("process: open", "process: probing"))


def test_the_fleet_keeps_nothing_closed(vt: Any) -> None:
    """E1: nine of ten see success, and the one that sees none is protected all the same, by its own rule."""
    fleet = Processes(vt, 10)
    for _ in range(10):
        fleet.all[0].call(fails=True)
    assert fleet.all[0].breaker.state == "open"
    assert {process.breaker.state for process in fleet.all[1:]} == {"closed"}


def test_one_call_probes_for_all_and_closes_for_all(vt: Any) -> None:
    """E4: when the open time is over one call of all processes passes; its success, at once, lets the others in."""
    fleet = Processes(vt, 8, failure_rate=0.5).opened()
    sent = fleet.sent
    outcomes: list[str] = []
    while "ok" not in outcomes:
        outcomes = fleet.call()
        fleet.pass_time(0.05)
    assert fleet.sent == sent + 1
    for _ in range(40):
        fleet.call()
        fleet.pass_time(0.05)
    assert set(fleet.states) == {"closed"}
    assert fleet.call() == ["ok"] * 8


def test_during_an_outage_few_probes_reach_the_dependency(vt: Any) -> None:
    """A minute of outage, forty processes: one probe for each open time of all, not one for each process."""
    fleet = Processes(vt, 40).opened()
    sent = fleet.sent
    for _ in range(240):
        fleet.call(fails=True)
        fleet.pass_time(0.25, 0.25)
    assert 10 <= fleet.sent - sent <= 60


def test_a_cancelled_probe_gives_its_lease_back(vt: Any) -> None:
    """No result is no result: the next call probes at once, not when the lease has lapsed."""
    fleet = Processes(vt, 2, open_for=0.2, probe_lease=60).opened()
    permit: Any = None
    while not permit:
        fleet.pass_time(0.05)
        for process in fleet.all:
            permit = permit or process.breaker.try_acquire()
    permit.ignore()
    outcomes: set[str] = set()
    for _ in range(20):
        fleet.pass_time(0.05)
        outcomes |= set(fleet.call())
    assert "ok" in outcomes


def test_a_lease_that_no_call_uses_goes_to_another_process(vt: Any) -> None:
    """A process is given the lease, and its callers have left: the others must not wait for its lease to lapse."""
    fleet = Processes(vt, 2, open_for=0.2, probe_lease=60).opened()
    idle, busy = fleet.all
    idle.call()  # it has a call to probe with, so it may be the one that is given the lease
    fleet.pass_time(0.05)
    outcomes: set[str] = set()
    for _ in range(40):
        outcomes.add(busy.call())
        fleet.pass_time(0.05)
    assert "ok" in outcomes


def test_results_of_before_the_change_count_for_nothing(vt: Any) -> None:
    """A call that began before the fleet opened ends after it has closed: it has seen what is over."""
    fleet = Processes(vt, 4)
    late = [process.breaker.try_acquire() for process in fleet.all for _ in range(5)]
    fleet.opened()
    while set(fleet.states) != {"closed"}:
        fleet.call()
        fleet.pass_time(0.05)
    for permit in late:
        permit.failure(OSError())
    fleet.pass_time(1)
    assert set(fleet.states) == {"closed"}
    assert set(fleet.call()) == {"ok"}


def test_a_state_by_hand_counts_more(vt: Any) -> None:
    """An operator who has closed the breaker here knows more than the fleet does."""
    fleet = Processes(vt, 4).opened()
    fleet.all[0].breaker.force_closed()
    assert fleet.all[0].call() == "ok"
    assert fleet.all[1].call().startswith("fleet")
    fleet.all[1].breaker.disable()
    assert fleet.all[1].call(fails=True) == "failed"


def test_shadow_mode_rejects_nothing(vt: Any) -> None:
    """`enforce=False` counts what the fleet would have rejected."""
    fleet = Processes(vt, 4, enforce=False)
    for _ in range(20):
        fleet.call(fails=True)
        fleet.pass_time(0.05)
    assert set(fleet.call()) == {"ok"}
    assert sum(process.breaker.snapshot().would_reject for process in fleet.all) > 0
    assert sum(process.breaker.snapshot().rejected for process in fleet.all) == 0


def test_changes_are_events_of_each_process(vt: Any) -> None:
    """A process that adopts the fleet's state says so, once, with the reason."""
    fleet, seen = Processes(vt, 3, open_for=5, max_open_for=5), []
    stop = events.subscribe(seen.append)
    fleet.opened()
    fleet.call(fails=True)
    stop()
    mine = [(event.old, event.new, event.reason) for event in seen]
    assert mine.count(("closed", "open", "consecutive")) == 3


# ---- the store is away -------------------------------------------------------------------------------------------


def test_what_the_store_gave_ends(vt: Any) -> None:
    """E5: the store is gone while the fleet is open: after the time of an answer the breaker here is alone."""
    fleet = Processes(vt, 4, open_for=60, max_open_for=60).opened()
    for process in fleet.all:
        process.wire.loses = "asks"
    fleet.pass_time(0.7)
    assert fleet.call() == ["fleet: open"] * 4
    fleet.pass_time(1)
    assert fleet.call() == ["ok"] * 4
    assert set(fleet.states) == {"closed"}
    fleet.pass_time(3)
    assert fleet.all[0].breaker.snapshot().sharing.degraded == "store_down"


def test_without_a_store_each_has_its_own_breaker(vt: Any) -> None:
    """No call waits, none fails, and ten failures in a row open, as in one process."""
    fleet = Processes(vt, 2)
    for process in fleet.all:
        process.wire.loses = "asks"
    fleet.pass_time(5)
    for _ in range(10):
        assert fleet.call(fails=True) == ["failed"] * 2
    assert fleet.call() == ["process: open"] * 2


def test_a_report_whose_answer_is_lost_counts_once(vt: Any) -> None:
    """It is sent again as it was: a lost answer must not make two failures of one."""
    fleet = Processes(vt, 2)
    for process in fleet.all:
        process.wire.loses = "answers"
    for _ in range(4):
        fleet.call(fails=True)
    fleet.pass_time(0.9)
    for process in fleet.all:
        process.wire.loses = ""
    fleet.pass_time(3)  # after losses a courier's next trip is up to two seconds later
    assert set(fleet.states) == {"closed"}
    fleet.call(fails=True)
    fleet.pass_time(0.6)
    assert set(fleet.states) != {"closed"}


def test_a_lost_key_begins_closed_and_learns_again(vt: Any) -> None:
    """The store was flushed: no state of before counts, and an outage that lasts is found again."""
    fleet = Processes(vt, 4, open_for=30, max_open_for=30).opened()
    fleet.store.evict()
    fleet.pass_time(0.6)
    assert set(fleet.states) == {"closed"}
    fleet.opened()


def test_a_process_that_comes_later_is_in_the_fleets_state(vt: Any) -> None:
    """A deployment during an outage: new processes do not have to find it out."""
    store = MemoryEngine()
    Processes(vt, 4, store=store, open_for=30, max_open_for=30).opened()
    late = Processes(vt, 1, store=store, open_for=30, max_open_for=30)
    assert late.call() == ["fleet: open"]


def test_a_breaker_that_leaves_its_fleet_is_its_own(vt: Any) -> None:
    """`configure` may end a scope at any time, also with calls under way."""
    fleet = Processes(vt, 4, open_for=30, max_open_for=30).opened()
    breaker = fleet.all[0].breaker
    breaker.reconfigure(scope="process")
    assert fleet.all[0].call() == "ok"
    assert breaker.snapshot().sharing is None
    breaker.reconfigure(scope=fleet.all[0].fleet)
    fleet.pass_time(0.6)
    assert fleet.all[0].call() == "fleet: open"


def test_what_is_seen_of_a_fleet(vt: Any) -> None:
    """The snapshot says whose state it is, how old it is, and how many share it."""
    fleet = Processes(vt, 3)
    sharing = fleet.all[0].breaker.snapshot().sharing
    assert (sharing.scope, sharing.peers, sharing.state) == ("fleet:shop", 3, "closed")
    assert sharing.age < 0.5
    fleet.opened()
    assert fleet.all[0].breaker.snapshot().sharing.state == "open"
    assert fleet.all[0].breaker.snapshot().state == "open"


def test_without_a_host_there_is_no_state_of_a_host(vt: Any) -> None:
    """With `host=False` the snapshot showed a host's breaker, which was that of this process again."""
    process = Processes(vt, 1).all[0]
    assert process.breaker.snapshot().host_state is None
    assert process.breaker.snapshot().sharing.state == "closed"


def test_an_outage_is_seen_among_reports_of_what_went_well_before(vt: Any) -> None:
    """Reports of a tick mix calls from before an outage with its failures; each of them began the row again."""
    fleet = Processes(vt, 20)
    for _ in range(4):
        fleet.call()
        fleet.pass_time(0.02, 0.005)
    for _ in range(2):
        fleet.call(fails=True)
        fleet.pass_time(0.05, 0.005)
    assert set(fleet.states) == {"open"}


def test_a_process_whose_calls_fail_looks_soon_what_others_have_seen(vt: Any) -> None:
    """The fleet had opened, and a process whose one failure had been reported went on until its next tick."""
    fleet = Processes(vt, 20)
    fleet.call(fails=True)
    fleet.pass_time(0.08, 0.005)
    assert set(fleet.states) == {"open"}


def reports_to(store: MemoryEngine) -> list[BreakerAsk]:
    """Return a list that gets each report that comes to a store."""
    found: list[BreakerAsk] = []
    exchange = store.exchange

    def seen(asks: Sequence[BreakerAsk], timeout: float) -> Any:
        found.extend(asks)
        return exchange(asks, timeout)

    store.exchange = seen  # type: ignore[method-assign, assignment]
    return found


def test_more_calls_than_a_tally_holds_keep_their_share_of_failures(vt: Any) -> None:
    """
    A tally holds 2^18 calls between two reports. With a courier that was starved for longer the total began again, and
    the failures did not: of 300,000 calls of which a tenth had failed, the store saw eight of ten fail.
    """
    processes = Processes(vt, 1, failure_rate=0.5, min_calls=10, consecutive=None)
    (process,) = processes.all
    processes.call()
    processes.pass_time(2)
    found = reports_to(processes.store)
    for i in range(300_000):
        permit = process.breaker.try_acquire()
        permit.failure() if i % 10 == 0 else permit.success()  # type: ignore[union-attr]
    processes.pass_time(1)
    failed, ok = sum(ask.failed for ask in found), sum(ask.ok for ask in found)
    assert ok + failed == 2**18 - 1
    assert failed == pytest.approx(0.1 * (ok + failed), rel=0.001)


def test_what_a_store_has_missed_is_not_reported_to_it(vt: Any) -> None:
    """Failures of a minute ago would be evidence of now once the store is back."""
    processes = Processes(vt, 3, failure_rate=0.5, min_calls=10, consecutive=None)
    processes.call()
    processes.pass_time(2)
    for process in processes.all:
        process.wire.loses = "asks"
    for turn in range(200):
        processes.call(fails=turn < 40)
        processes.pass_time(0.1)
    found = reports_to(processes.store)
    for process in processes.all:
        process.wire.loses = ""
    for _ in range(40):
        processes.call()
        processes.pass_time(0.1)
    assert sum(ask.ok for ask in found) > 0
    assert [ask.failed for ask in found if ask.failed] == []
