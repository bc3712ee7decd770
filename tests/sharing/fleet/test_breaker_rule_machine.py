"""The rule of a fleet's breaker under loss, repetition, disorder, kills and lost keys, against an oracle of events."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio.sharing._fleet.ask_breaker import BAD, CLOSED, GOOD, HALF_OPEN, OPEN, BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.rules import exchange
from resilio.sharing._fleet.rules.breaker import SHORTEST_KEEP_US
from resilio.sharing._fleet.rules.breaker_evidence import Asker, Bucket
from resilio.sharing._fleet.rules.rows import HEAD, State

TICK, LEASE = 250_000, 1_000_000
ASKERS = (1, 2, 3, 4, 5)


class Client:
    """A process that reports: it sends a report again until it is answered, and probes when it holds a lease."""

    def __init__(self, asker: int) -> None:
        self.asker, self.seq = asker, 1
        self.known: BreakerAnswer | None = None
        self.counts: Counter[str] = Counter()
        self.sent: BreakerAsk | None = None
        self.holds = self.result = 0

    def ask(self) -> BreakerAsk:
        """The report on its way, or a new one."""
        if self.sent is None:
            known = {"seen": self.known.seq, "generation": self.known.generation} if self.known else {}
            options = {"tick_us": TICK, "lease_us": LEASE, "sure": 0, "window_calls": 0, "window_us": 0, "ready": 1}
            now: dict[str, Any] = {"holds": self.holds, "result": self.result, **self.counts, **options, **known}
            self.sent = BreakerAsk(key="k", asker=self.asker, seq=self.seq, **now)
            self.counts.clear()
            self.result = 0
        return self.sent

    def take(self, answer: BreakerAnswer) -> None:
        """Act by the answer to the report on its way; a late one is dropped."""
        if self.sent is None or answer.seq != self.seq:
            return
        if self.known is None or answer.generation != self.known.generation:
            self.counts.clear()
            self.result = 0
        self.known, self.sent, self.holds = answer, None, answer.lease
        self.seq += 1


class FleetOfFive(RuleBasedStateMachine):
    """Five processes, and a network that loses, doubles and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State | None = None
        self.now = 1_000_000_000
        self.clients = {asker: Client(asker) for asker in ASKERS}
        self.born = len(ASKERS)
        self.late: list[BreakerAsk] = []  # on their way, or copies
        self.late_answers: list[tuple[int, BreakerAnswer]] = []
        self.failed: Counter[int] = Counter()  # of reports that count in the store's generation, by asker
        self.heard: Counter[int] = Counter()  # the last report of each asker that has arrived
        self.met: dict[int, int] = {}  # when
        self.again: Counter[int] = Counter()  # failures of reports that came again once their asker may be forgotten
        self.lease: dict[int, int] = {}  # ends of the leases of this generation, by asker

    @initialize()
    def all_meet(self) -> None:
        for place in range(5):
            self.asks(place, "well")

    @property
    def head(self) -> tuple[float, float]:
        """The store's generation and state."""
        row = (self.state or {}).get(HEAD, (0, 0))
        return row[0], row[1]

    def deliver(self, ask: BreakerAsk) -> BreakerAnswer:
        """Let the store answer, and check each change."""
        generation, before = self.head
        if ask.generation == generation and before == CLOSED:
            if ask.seq > self.heard[ask.asker]:
                self.failed[ask.asker] += ask.failed
            elif self.now - self.met[ask.asker] >= SHORTEST_KEEP_US:
                self.again[ask.asker] += ask.failed
        self.heard[ask.asker] = max(ask.seq, self.heard[ask.asker])
        self.met[ask.asker] = self.now
        self.state, answer = exchange(self.state, ask, self.now)
        assert isinstance(answer, BreakerAnswer)
        assert answer.generation >= generation
        if answer.generation != generation:
            self.change(before, answer)
        elif answer.lease and answer.lease == ask.seq:
            self.lease[ask.asker] = max(self.now + LEASE, self.lease.get(ask.asker, 0))
        return answer

    def change(self, before: float, answer: BreakerAnswer) -> None:
        """Check a change of the state against what has been reported."""
        if before == CLOSED and answer.state == OPEN:  # E2
            failed = [self.failed[asker] + self.again[asker] for asker in self.failed]
            assert 2 * (sum(failed) - max(failed)) >= 10
        self.failed.clear()
        self.again.clear()
        self.lease.clear()
        if answer.lease:
            self.lease[self.who] = self.now + LEASE

    @rule(asker=st.integers(0, 4), ok=st.integers(0, 1), failed=st.integers(0, 8))
    def calls(self, asker: int, ok: int, failed: int) -> None:
        client = self.client(asker)
        if client.known is not None and client.known.state == CLOSED:
            client.counts.update(ok=ok, failed=failed)

    @rule()
    def everything_fails(self) -> None:
        for client in self.clients.values():
            if client.known is not None and client.known.state == CLOSED:
                client.counts.update(failed=4)
        for asker in range(5):
            self.asks(asker, "well")

    @rule(asker=st.integers(0, 4), failed=st.integers(1, 4))
    def is_doubled(self, asker: int, failed: int) -> None:
        self.calls(asker, 0, failed)
        client = self.client(asker)
        ask = client.ask()
        self.who = ask.asker
        answer = self.deliver(ask)
        self.deliver(ask)
        client.take(answer)

    @rule()
    def recovers(self) -> None:
        self.now += 4_000_000
        for client in list(self.clients.values()) * 4:
            if client.holds:
                client.holds, client.result = 0, GOOD
            self.who = client.asker
            client.take(self.deliver(client.ask()))

    @rule(asker=st.integers(0, 4), fate=st.sampled_from(["well", "well", "well", "lost", "late", "no_answer"]))
    def asks(self, asker: int, fate: str) -> None:
        client = self.client(asker)
        ask = client.ask()
        self.who = ask.asker
        if fate == "late":
            self.late.append(ask)
        elif fate != "lost":
            answer = self.deliver(ask)
            if fate == "well":
                client.take(answer)
            else:
                self.late_answers.append((ask.asker, answer))
                self.late.append(ask)

    @precondition(lambda self: self.late)
    @rule(which=st.integers(0, 99), again=st.booleans())
    def arrives(self, which: int, again: bool) -> None:
        ask = self.late[which % len(self.late)] if again else self.late.pop(which % len(self.late))
        self.who = ask.asker
        self.late_answers.append((ask.asker, self.deliver(ask)))

    @precondition(lambda self: self.late_answers)
    @rule(which=st.integers(0, 99))
    def answer_arrives(self, which: int) -> None:
        asker, answer = self.late_answers.pop(which % len(self.late_answers))
        if asker in self.clients:
            self.clients[asker].take(answer)

    @rule(asker=st.integers(0, 4), good=st.booleans())
    def probes(self, asker: int, good: bool) -> None:
        client = self.client(asker)
        if client.holds:
            client.holds, client.result = 0, GOOD if good else BAD

    @rule(us=st.sampled_from([1_000, TICK, TICK, 4 * TICK, 40 * TICK]))
    def time_passes(self, us: int) -> None:
        self.now += us

    @rule(asker=st.integers(0, 4))
    def is_killed(self, asker: int) -> None:
        self.born += 1
        del self.clients[self.client(asker).asker]
        self.clients[self.born] = Client(self.born)

    @rule()
    def key_is_lost(self) -> None:
        self.now += 1
        self.state = None
        self.failed.clear()
        self.again.clear()
        self.lease.clear()
        self.heard.clear()

    def client(self, place: int) -> Client:
        return list(self.clients.values())[place]

    @invariant()
    def one_probe_at_a_time(self) -> None:
        """E4: one lease of a round is in force, and it was given for no longer than it lasts."""
        generation, state = self.head
        if state == HALF_OPEN and self.state is not None:
            rows = {int(field): Asker(row) for field, row in self.state.items() if field != HEAD}
            holders = [asker for asker, row in rows.items() if row.holds(generation, self.now)]
            assert len(holders) <= 1
            assert all(rows[asker].lease_until <= self.lease[asker] for asker in holders)

    @invariant()
    def each_report_counts_once(self) -> None:
        """
        The window has what was reported in this generation, each report once, however often it has arrived.

        Of an asker that was silent for ten seconds the store knows nothing any more: its report may count again.
        """
        if self.state is not None and self.head[1] == CLOSED:
            buckets = Bucket.all_of(self.state[HEAD][12:-2])
            once = sum(self.failed.values())
            assert once <= sum(one.failed for one in buckets) <= once + sum(self.again.values())
            rows = {int(field): Asker(row) for field, row in self.state.items() if field != HEAD}
            in_row = {asker: row.failures for asker, row in rows.items() if row.failing >= self.state[HEAD][9]}
            assert all(failures <= self.failed[asker] + self.again[asker] for asker, failures in in_row.items())

    @invariant()
    def an_open_time_ends(self) -> None:
        """It is never longer than `max_open_for`."""
        if self.state is not None and self.head[1] == OPEN:
            assert self.state[HEAD][6] - self.now <= 3_000_000

    def teardown(self) -> None:
        """Whatever has happened: when the network is well, good probes close it, and all know."""
        for client in self.clients.values():
            client.counts.clear()
        for _ in range(8):
            self.recovers()
        assert self.head[1] == CLOSED
        assert {client.known.state for client in self.clients.values() if client.known} == {CLOSED}


FleetOfFive.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestFleetOfFive = FleetOfFive.TestCase
