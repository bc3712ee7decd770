"""The clock of the store: set back or ahead by any time, once or for a moment, no rule stops or runs ahead."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from limits_of_fleet import hosts, play

from resilio import Rate
from resilio.sharing import Answer, Ask, MemoryEngine, exchange
from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk
from resilio.sharing._fleet.ask_breaker import CLOSED, OPEN, BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.ask_spend import SpendAnswer, SpendAsk
from resilio.sharing._fleet.rules import LATE_US
from resilio.sharing._fleet.rules.rows import State
from resilio.testing import virtual_time

SECOND = 1_000_000
TICK = 250_000
HOUR = 3_600 * SECOND

MOST = 2 * SECOND
"""What a step may cost, of any size and in either direction."""

Steps = list[tuple[int, int]]
"""When the clock is set, and by how much it is wrong from then on, in microseconds."""

anywhere = st.lists(st.tuples(st.integers(SECOND, 8 * SECOND), st.integers(-24 * HOUR, 24 * HOUR)), max_size=3)


class Store:
    """A store on a clock that is set, and askers that reckon its time as their couriers do."""

    def __init__(self, steps: Steps) -> None:
        self.steps = sorted(steps)
        self.state: State | None = None
        self.at = 0
        self.read: dict[int, tuple[int, int]] = {}

    def ticks(self, until: int) -> Iterator[int]:
        """Yield the true times at which it is asked."""
        while self.at < until:
            yield self.at
            self.at += TICK

    def ask(self, ask: Ask) -> Answer:
        """Return the answer."""
        wrong = [by for at, by in self.steps if at <= self.at]
        now_us = 1_800_000_000 * SECOND + self.at + (wrong[-1] if wrong else 0)
        if ask.asker in self.read:
            at_us, when = self.read[ask.asker]
            ask.by_us = at_us + self.at - when
        self.state, answer = exchange(self.state, ask, now_us)
        self.read[ask.asker] = answer.at_us, self.at
        return answer


@example([(2 * SECOND, -30 * SECOND)])
@example([(2 * SECOND, SECOND), (2 * SECOND + TICK, 0)])
@example([(2 * SECOND, HOUR), (3 * SECOND, 0)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_a_limit_stands_still_for_no_longer_than_that_and_admits_no_more(steps: Steps) -> None:
    """
    A step back of half a minute, and one of a second ahead and back, stopped every limit until then.

    A step ahead was time that had passed: one of a second gave 100 tokens of a limit of 100/s at once, and one of half
    a minute all of its burst of 1,000. Now it is a tenth of a second.
    """
    store, granted, rests = Store(steps), 0, 16
    for seq, at in enumerate(store.ticks(10 * SECOND), 1):
        limit = {"amount": 100 * TOKEN, "period_us": SECOND, "burst": 1000 * TOKEN, "tick_us": TICK}
        for asker in (1, 2) if at // TICK % rests == 0 else (1,):  # one is there each tick, the other now and then
            answer = store.ask(LimitAsk(key="k", asker=asker, seq=seq, seen=seq - 1, want=1000 * TOKEN, **limit))
            assert isinstance(answer, LimitAnswer)
            granted += answer.grant
    gained = 100 * LATE_US // SECOND * len(steps)
    assert 2_000 - 100 * MOST // SECOND * len(steps) - 25 <= granted // TOKEN <= 2_000 + gained


@example([(2 * SECOND, -30 * SECOND)])
@example([(2 * SECOND, 30 * SECOND)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_a_breaker_is_open_for_no_longer_than_that(steps: Steps) -> None:
    """It must not stay open for the hour that the clock went back, nor be probed at once after one ahead."""
    store, opened, open_for, generation = Store(steps), 0, 0, 0
    for at in store.ticks(10 * SECOND):
        for asker in (1, 2):
            report = {"failed": 10} if not opened and at >= SECOND else {"ok": 10} if not opened else {}
            number = 2 * at // TICK + 1
            ask = BreakerAsk(key="k", asker=asker, seq=number, generation=generation, open_us=3 * SECOND, **report)
            answer = store.ask(ask)
            assert isinstance(answer, BreakerAnswer)
            generation = answer.generation
            opened = opened or (at if answer.state == OPEN else 0)
            open_for = max(open_for, at - opened if opened and answer.state == OPEN else 0)
    assert opened == SECOND
    assert answer.state != CLOSED
    assert open_for <= 3 * SECOND + MOST
    assert open_for >= 2_700_000 - LATE_US * len(steps) - TICK  # an open time is shorter by up to a tenth


@example([(2 * SECOND, -30 * SECOND)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_slots_of_the_dead_are_free_in_time(steps: Steps) -> None:
    """
    A host has all slots and dies: others have them once its lease has ended, and no sooner.

    A step ahead gave the slots of calls under way to others: so a lease ends before its holder stops by a tenth of a
    second at most, and holders renew theirs each tick.
    """
    store, ttl_us, free_at = Store(steps), 4 * SECOND, 0
    store.ask(SlotsAsk(key="k", asker=1, seq=1, capacity=10, want=10, ttl_us=ttl_us))
    for seq, at in enumerate(store.ticks(10 * SECOND), 1):
        answer = store.ask(SlotsAsk(key="k", asker=2, seq=seq, capacity=10, want=10, ttl_us=ttl_us))
        assert isinstance(answer, SlotsAnswer)
        free_at = free_at or (at if answer.held == 10 else 0)
    assert ttl_us - LATE_US * len(steps) <= free_at <= ttl_us + MOST


@pytest.mark.parametrize("step", [-30 * SECOND, 30 * SECOND])
def test_money_is_granted_again_in_time(step: int) -> None:
    """A store that has lost its rows grants nothing until all have asked again: for no longer than that."""
    store, ttl_us, again = Store([(2 * SECOND, step)]), 1_250_000, 0
    for at in store.ticks(6 * SECOND):
        numbers = {"seq": at // TICK + 1, "limit": 1000, "stands": int(at == SECOND), "ttl_us": ttl_us}
        answer = store.ask(SpendAsk(key="k", asker=1 if at < SECOND else 2, want=1, keep_us=HOUR, **numbers))
        assert isinstance(answer, SpendAnswer)
        again = again or (at if answer.grant and at > SECOND else 0)
    assert again <= SECOND + ttl_us + MOST


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory of hosts is for Linux")
@pytest.mark.parametrize("step", [SECOND, 15 * SECOND, -15 * SECOND])
def test_couriers_reckon_the_time_of_the_store(step: int) -> None:
    """The clock of a store is wrong for half a second: a limit that is used up gives its calls no burst for that."""
    with virtual_time() as vt:
        wrong = [0]
        store = MemoryEngine(lambda: HOUR + round(vt.now * SECOND) + wrong[0])
        host = hosts(1, Rate("100/s", burst=1000), store=store)[0]
        play(vt, [host], [10_000.0], 2.0)
        wrong[0] = step
        found = len(play(vt, [host], [10_000.0], 0.5))
        wrong[0] = 0
        found += len(play(vt, [host], [10_000.0], 1.5))
        assert 170 <= found <= 220, "in two seconds 200 come in, and up to 20 that are kept"
