"""
A fleet's rate limit under all that networks, stores and processes do: F1 to F3 against an ideal bucket.

Processes hold leases and spend them. Asks and answers are lost, repeated, late and out of order; processes are killed;
the store loses its state, and its clock steps. Each admitted call is drawn from one ideal bucket, which began full: it
is never overdrawn by more than the credit of that time, and than what a lost state and a step of the clock may cost.
"""

from __future__ import annotations

import random

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk
from resilio.sharing._fleet.rules import exchange
from resilio.sharing._fleet.rules.rows import HEAD, State

RATE = 100  # tokens a second
BURST = 100 * TOKEN
TICK_US, TTL_US = 250_000, 1_250_000
MOST = 4

holders = st.integers(0, MOST - 1)
some = st.integers(0, 99)


@attrs.define
class Holder:
    """One process: what it holds, and what it has asked."""

    asker: int
    purse: int = 0
    credit: int = 0
    expires_us: int = 0
    seq: int = 0
    seen: int = 0
    sent: LimitAsk | None = None
    sent_us: int = 0

    def admits(self, now_us: int) -> bool:
        """Spend a token, or reject."""
        if now_us >= self.expires_us:
            self.purse, self.credit = min(self.purse, 0), 0
        if self.purse - TOKEN < -self.credit:
            return False
        self.purse -= TOKEN
        return True

    def ask(self, now_us: int, demand: int, want: int, least: int) -> LimitAsk:
        """Give back all but two tokens, and ask anew."""
        self.give_up()
        if now_us >= self.expires_us:
            self.purse = min(self.purse, 0)
        kept = max(0, min(self.purse, 2 * TOKEN))
        left, self.purse = self.purse - kept, kept
        self.credit = 0
        self.seq += 1
        self.sent_us = now_us
        self.sent = LimitAsk(
            key="k",
            asker=self.asker,
            seq=self.seq,
            seen=self.seen,
            amount=RATE * TOKEN,
            period_us=1_000_000,
            burst=BURST,
            left=left,
            kept=kept,
            demand=demand * TOKEN,
            want=want * TOKEN,
            least=least * TOKEN,
            tick_us=TICK_US,
            ttl_us=TTL_US,
        )
        return self.sent

    def give_up(self) -> None:
        """Take an ask for lost: a debt stays, what was given back is gone."""
        if self.sent is not None:
            self.purse += min(self.sent.left, 0)
            self.sent = None

    def take(self, answer: LimitAnswer) -> None:
        """Take an answer, if it is that of the last ask and no other has been given up for it."""
        if self.sent is None or answer.seq != self.sent.seq:
            return
        self.sent = None
        self.seen = answer.seq
        self.purse += answer.grant
        self.credit = answer.credit
        self.expires_us = self.sent_us + TTL_US


class Fleet(RuleBasedStateMachine):
    """Processes, a network, and a store."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0  # of the processes, and of the ideal bucket
        self.store_us = 1_800_000_000_000_000
        self.state: State | None = None
        self.born = 0
        self.holders = [self._new() for _ in range(MOST)]
        self.asks: list[LimitAsk] = []  # on their way, in any order
        self.answers: list[tuple[int, LimitAnswer]] = []
        self.ideal, self.allowed = BURST, 0
        self.is_lost = False
        self.is_calm, self.greedy = False, set[int]()

    def _new(self) -> Holder:
        self.born += 1
        return Holder(self.born)

    @initialize(is_calm=st.booleans(), greedy=st.sets(holders))
    def begin(self, *, is_calm: bool, greedy: set[int]) -> None:
        """A calm store loses nothing, and its clock does not step; a greedy process spends all that it gets at once."""
        self.is_calm, self.greedy = is_calm, greedy

    # ---- what processes do

    @rule(n=holders, calls=st.integers(1, 60))
    def call(self, n: int, calls: int) -> None:
        """Calls come, and are admitted or rejected without asking."""
        while calls > 0 and self.holders[n].admits(self.now_us):
            calls -= 1
            self.ideal -= TOKEN

    def _spend(self) -> None:
        for n in sorted(self.greedy):
            self.call(n, 1000)

    @rule(n=holders, demand=st.sampled_from([0, 10, 100, 1000]), least=st.sampled_from([0, 0, 1, 10]))
    def ask(self, n: int, demand: int, least: int) -> None:
        """A process asks for what it needs in a tick and a half."""
        self.asks.append(self.holders[n].ask(self.now_us, demand, max(demand * 3 // 8, least), least))

    @rule(n=holders, demand=st.sampled_from([10, 100, 1000]))
    def trip(self, n: int, demand: int) -> None:
        """A trip that nothing befalls."""
        holder = self.holders[n]
        answer = self._store(holder.ask(self.now_us, demand, demand * 3 // 8, 0))
        holder.take(answer)
        self._spend()

    @rule(n=holders)
    def kill(self, n: int) -> None:
        """A process dies with what it holds, and another one starts."""
        self.holders[n] = self._new()

    # ---- what befalls them

    @rule(us=st.sampled_from([1_000, 60_000, 250_000, 1_000_000, 5_000_000]))
    def wait(self, us: int) -> None:
        """Time passes everywhere."""
        self.now_us += us
        self.store_us += us
        self.ideal = min(BURST, self.ideal + RATE * us)

    @precondition(lambda self: self.asks)
    @rule(i=some, again=st.booleans(), late=st.booleans())
    def arrive(self, i: int, *, again: bool, late: bool) -> None:
        """One of the asks under way arrives; it may arrive once more; its answer may be lost, or come at any time."""
        i %= len(self.asks)
        ask = self.asks[i] if again else self.asks.pop(i)
        answer = self._store(ask)
        if late:
            self.answers.append((ask.asker, answer))

    @precondition(lambda self: self.answers)
    @rule(i=some)
    def answer(self, i: int) -> None:
        """One of the answers under way arrives."""
        asker, answer = self.answers.pop(i % len(self.answers))
        for holder in self.holders:
            if holder.asker == asker:
                holder.take(answer)
        self._spend()

    @rule(n=holders)
    def give_up(self, n: int) -> None:
        """A process takes its ask for lost."""
        self.holders[n].give_up()

    @precondition(lambda self: not self.is_calm)
    @rule()
    def lose_all(self) -> None:
        """The store loses its state: credit may be used once more, and a new process that asks first has the burst."""
        self.state, self.is_lost = None, True
        self.allowed += BURST // 4

    @precondition(lambda self: not self.is_calm)
    @rule(us=st.sampled_from([-5_000_000, -100_000, 100_000, 500_000]))
    def step(self, us: int) -> None:
        """The store's clock steps: forward, and what comes in meanwhile comes in at once, at most a burst."""
        self.store_us += us
        if us > 0:
            self.allowed += RATE * us

    def _store(self, ask: LimitAsk) -> LimitAnswer:
        if self.state is None and ask.seen == 0 and self.is_lost:
            self.allowed += BURST
        self.state, answer = exchange(self.state, ask, self.store_us)
        assert isinstance(answer, LimitAnswer)
        return answer

    # ---- what holds

    @invariant()
    def nothing_is_given_twice(self) -> None:
        """F1 and F2: the ideal bucket is overdrawn by credit at most, which is a quarter of the burst for all."""
        assert self.ideal >= -self.allowed - BURST // 4

    @invariant()
    def the_store_adds_up(self) -> None:
        """What is out is the sum of the leases, and with what is there it is never above the burst."""
        if self.state:
            tokens, _, _, out = self.state[HEAD][:4]
            leases = [row for field, row in self.state.items() if field != HEAD]
            assert out == sum(grant + kept for _, grant, kept, *_ in leases)
            assert tokens + out <= BURST
            assert all(lease[1] >= 0 for lease in leases)
            assert self.state[HEAD][11] == sum(lease[5] for lease in leases) <= BURST // 4


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


def _storm(seed: int, steps: int) -> None:
    chance = random.Random(seed)
    fleet = Fleet()
    fleet.begin(is_calm=seed % 4 > 0, greedy={n for n in range(MOST) if chance.random() < 0.8})
    for _ in range(steps):
        n, i = chance.randrange(MOST), chance.randrange(100)
        demand = chance.choice([0, 10, 100, 1000])
        do = chance.random()
        if do < 0.3:
            fleet.trip(n, max(demand, 10))
        elif do < 0.45:
            fleet.ask(n, demand, chance.choice([0, 0, 1, 10]))
        elif do < 0.7 and fleet.asks:
            fleet.arrive(i, again=chance.random() < 0.2, late=chance.random() < 0.7)
        elif do < 0.8 and fleet.answers:
            fleet.answer(i)
        elif do < 0.95:
            fleet.wait(chance.choice([1_000, 60_000, 250_000, 600_000, 2_000_000]))
        elif do < 0.98:
            fleet.give_up(n) if i < 70 else fleet.kill(n)
        elif not fleet.is_calm and i < 20:
            fleet.lose_all() if i < 10 else fleet.step(chance.choice([-5_000_000, 100_000]))
        fleet.nothing_is_given_twice()
        fleet.the_store_adds_up()


@pytest.mark.parametrize("seed", range(24))
def test_a_long_storm_gives_nothing_twice(seed: int) -> None:
    """Processes that spend all at once, for hours of their time: a defect that gives a token in a thousand shows."""
    _storm(seed, 2000)
