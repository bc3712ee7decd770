"""The rule of a fleet's bulkhead: slots by need, fair where they are few, and never more than there are."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.rules import exchange
from resilio.sharing._fleet.rules.rows import HEAD, State

SECOND = 1_000_000
TTL = 10 * SECOND


class Store:
    """A store with one bulkhead."""

    def __init__(self, capacity: int) -> None:
        self.state: State | None = None
        self.now = 100_000 * SECOND
        self.capacity = capacity
        self.seqs: dict[int, int] = {}

    def ask(self, asker: int, **fields: Any) -> SlotsAsk:
        seq = self.seqs[asker] = self.seqs.get(asker, 0) + 1
        return SlotsAsk(key="k", asker=asker, seq=seq, seen=seq - 1, capacity=self.capacity, ttl_us=TTL, **fields)

    def send(self, ask: SlotsAsk) -> SlotsAnswer:
        self.state, answer = exchange(self.state, ask, self.now)
        assert isinstance(answer, SlotsAnswer)
        return answer

    def renew(self, asker: int, **fields: Any) -> SlotsAnswer:
        return self.send(self.ask(asker, **fields))


def test_one_asker_gets_what_it_wants_up_to_all() -> None:
    """A fleet of one is a bulkhead of its own."""
    store = Store(20)
    assert store.renew(1, want=5).held == 5
    assert store.renew(1, kept=5, want=50).held == 20


def test_slots_go_where_they_are_wanted() -> None:
    """An idle process gives its slots to one that is busy, and not by equal parts."""
    store = Store(20)
    assert store.renew(1, want=2).held == 2
    busy = store.renew(2, want=30)
    assert (busy.held, busy.peers, busy.left) == (18, 2, 0)


def test_wants_above_the_capacity_are_cut_to_a_fair_share() -> None:
    """One that came first must not keep all: what it may use is its share, as soon as its calls have ended."""
    store = Store(20)
    assert store.renew(1, want=100).held == 20
    assert store.renew(2, want=100).held == 0
    again = store.renew(1, kept=20, want=100)
    assert (again.held, again.fair) == (20, 10)
    assert store.renew(1, kept=12, want=100).held == 12
    assert store.renew(2, want=100).held == 8
    assert store.renew(1, kept=10, want=100).held == 10
    assert store.renew(2, kept=8, want=100).held == 10


def test_every_slot_is_given() -> None:
    """Twenty among three are seven, seven and six, not six each."""
    store = Store(20)
    for asker in (1, 2, 3):
        store.renew(asker, want=100)
    for asker in (1, 2, 3):
        store.renew(asker, want=100)
    held = sorted(store.renew(asker, want=100).held for asker in (1, 2, 3))
    assert held == [6, 7, 7]


def test_a_lease_that_lapses_is_free() -> None:
    """A process that was killed holds its slots no longer than a lease lasts: no gauge leaks."""
    store = Store(4)
    store.renew(1, want=4)
    store.now += TTL - 1
    assert store.renew(2, want=4).held == 0
    store.now += 1
    assert store.renew(2, want=4).held == 4


def test_an_answer_that_is_lost_costs_only_time() -> None:
    """The asker keeps what it knows of, so that is what the store has after the next ask."""
    store = Store(10)
    store.renew(1, want=6)  # lost on its way back
    assert store.renew(2, want=10).held == 4
    store.renew(1, want=2)
    assert store.renew(2, want=10, kept=4).held == 8


def test_an_ask_that_arrives_late_changes_nothing() -> None:
    """The network doubles and reorders."""
    store = Store(10)
    late = store.ask(1, want=10)
    store.renew(1, want=2)
    store.send(late)
    assert store.renew(2, want=10).held == 8


def test_after_a_loss_nothing_is_given_until_all_leases_have_ended() -> None:
    """The key was evicted: the holders still use their slots, and the store does not know them."""
    store = Store(10)
    store.renew(1, want=6)
    store.renew(2, want=4)
    store.state = None
    ends = store.now + TTL
    answer = store.renew(1, want=10, kept=6, sure=6, ends_us=ends)
    assert (answer.held, answer.fair) == (6, 6)
    assert store.renew(3, want=10).held == 0
    assert store.renew(2, want=4, kept=4, ends_us=ends).held == 4
    store.now += TTL // 2
    assert store.renew(1, want=10, kept=6).held == 6
    store.now += TTL // 2
    assert store.renew(1, want=10, kept=6).held == 10


def test_an_ask_that_lay_in_the_socket_of_a_stopped_store_is_no_loss() -> None:
    """
    A store was stopped for longer than a lease lasts, and each host had sent an ask before its lease ended.

    When the store went on it took them for the asks of hosts whose rows were lost: 20 slots were free, and it gave none
    of them for ten seconds.
    """
    store = Store(20)
    ends = store.renew(1, want=8).ends_us
    assert ends == store.now + TTL
    store.renew(2, want=8)
    late = [store.ask(asker, want=8, kept=0, sure=0, ends_us=ends) for asker in (1, 2)]
    store.now += 5 * TTL
    for ask in late:
        store.send(ask)
    assert store.renew(1, want=8).held == 8
    assert store.renew(2, want=8).held == 8


def test_calls_that_outlived_their_lease_make_no_room_for_more() -> None:
    """A host was cut off, its slots went to others, and it came back with calls: as these ended it took new ones."""
    store = Store(10)
    store.renew(1, want=10)
    store.now += TTL
    store.renew(2, want=10)
    assert store.renew(1, want=10, kept=10).fair == 0
    again = store.renew(1, want=10, kept=4, sure=0)
    assert (again.held, again.fair) == (4, 0)
    store.renew(2, kept=5, sure=5, want=10)
    assert store.renew(1, want=10, kept=1, sure=0).fair == 5


def test_a_clock_that_steps_back_keeps_what_is_left_of_a_lease() -> None:
    """The store's host has set its clock by an hour: the slots of a dead process do not wait for that hour."""
    store = Store(10)
    store.renew(1, want=10)
    store.now -= 3_600 * SECOND
    assert store.renew(2, want=10).held == 0
    store.now += TTL
    assert store.renew(2, want=10).held == 10


class Slots(RuleBasedStateMachine):
    """G1 with four processes, and a network that loses, doubles and reorders; processes die and are followed."""

    CAPACITY = 12

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.CAPACITY)
        self.lease = dict.fromkeys(range(1, 5), (0, 0))  # what each may use, and until when, by its own clock
        self.ends = dict.fromkeys(self.lease, 0)  # by the store's clock
        self.used = dict.fromkeys(self.lease, 0)
        self.late: list[SlotsAsk] = []

    def bound(self, asker: int) -> int:
        """The calls that the asker may have now."""
        held, ends = self.lease[asker]
        return held if self.store.now < ends else 0

    @rule(
        asker=st.integers(1, 4),
        want=st.integers(0, 15),
        fate=st.sampled_from(["well", "well", "lost", "late", "no_answer"]),
    )
    def asks(self, asker: int, want: int, fate: str) -> None:
        stands, kept = self.store.now < self.lease[asker][1], self.used[asker]
        self.lease[asker] = min(kept, self.lease[asker][0]), self.lease[asker][1]
        sure = self.bound(asker)
        ask = self.store.ask(asker, want=want, kept=kept, sure=sure, ends_us=self.ends[asker] if stands else 0)
        sent = self.store.now
        if fate in ("late", "no_answer"):
            self.late.append(ask)
        if fate in ("well", "no_answer"):
            answer = self.store.send(ask)
            if fate == "well":
                self.lease[asker] = min(answer.held, answer.fair), sent + TTL
                self.ends[asker] = answer.ends_us

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 99))
    def arrives(self, which: int) -> None:
        """An ask of a lease that has ended lets the store keep slots that others have by now: that is careful."""
        ask = self.late.pop(which % len(self.late))
        if self.store.now < self.lease[ask.asker][1]:
            self.store.send(ask)

    @rule(asker=st.integers(1, 4), calls=st.integers(1, 12))
    def calls_begin(self, asker: int, calls: int) -> None:
        self.used[asker] = min(self.used[asker] + calls, max(self.used[asker], self.bound(asker)))

    @rule(asker=st.integers(1, 4))
    def calls_end(self, asker: int) -> None:
        self.used[asker] //= 2

    @rule(us=st.sampled_from([1_000, SECOND, 3 * SECOND]))
    def time_passes(self, us: int) -> None:
        self.store.now += us
        for asker, (_, ends) in self.lease.items():
            if self.store.now >= ends:
                self.used[asker] = 0  # its calls are over by then; or it exceeds by what it holds, which is stated

    @rule(asker=st.integers(1, 4))
    def is_killed(self, asker: int) -> None:
        self.lease[asker] = 0, 0
        self.used[asker] = 0

    @rule()
    def key_is_lost(self) -> None:
        if any(self.store.now < ends for _, ends in self.lease.values()) and self.late == []:
            self.store.state = None
            for asker, (held, ends) in self.lease.items():  # those that live renew before new ones come
                if self.store.now < ends:
                    ask = self.store.ask(asker, want=held, kept=held, sure=held, ends_us=self.ends[asker])
                    answer = self.store.send(ask)
                    self.lease[asker], self.ends[asker] = (answer.held, self.store.now + TTL), answer.ends_us

    @invariant()
    def holders_are_no_more_than_there_are(self) -> None:
        """G1."""
        assert sum(self.used.values()) <= self.CAPACITY

    @invariant()
    def leases_are_no_more_than_there_are(self) -> None:
        rows = self.store.state or {}
        assert sum(row[1] for field, row in rows.items() if field != HEAD and row[3] > self.store.now) <= self.CAPACITY


Slots.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSlots = Slots.TestCase
