"""The clock of the store: set back or ahead by any time, once or for a moment, it stops no rule for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilio.sharing import Ask, exchange
from resilio.sharing._fleet.ask import TOKEN, LimitAnswer, LimitAsk
from resilio.sharing._fleet.ask_breaker import CLOSED, OPEN, BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.ask_spend import SpendAnswer, SpendAsk
from resilio.sharing._fleet.rules.rows import State

SECOND = 1_000_000
TICK = 250_000
HOUR = 3_600 * SECOND

MOST = 2 * SECOND
"""What a step may cost, of any size and in either direction."""

Steps = list[tuple[int, int]]
"""When the clock is set, and by how much it is wrong from then on, in microseconds."""

anywhere = st.lists(st.tuples(st.integers(SECOND, 8 * SECOND), st.integers(-24 * HOUR, 24 * HOUR)), max_size=3)


class Store:
    """A store on a clock that is set."""

    def __init__(self, steps: Steps) -> None:
        self.steps = sorted(steps)
        self.state: State | None = None
        self.at = 0

    def ticks(self, until: int) -> Iterator[int]:
        """Yield the true times at which it is asked."""
        while self.at < until:
            yield self.at
            self.at += TICK

    def ask(self, ask: Ask) -> object:
        """Return the answer."""
        wrong = [by for at, by in self.steps if at <= self.at]
        now_us = 1_800_000_000 * SECOND + self.at + (wrong[-1] if wrong else 0)
        self.state, answer = exchange(self.state, ask, now_us)
        return answer


@example([(2 * SECOND, -30 * SECOND)])
@example([(2 * SECOND, SECOND), (2 * SECOND + TICK, 0)])
@example([(2 * SECOND, HOUR), (3 * SECOND, 0)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_a_limit_stands_still_for_no_longer_than_that(steps: Steps) -> None:
    """A step back of half a minute, and one of a second ahead and back, stopped every limit until then."""
    store, granted = Store(steps), 0
    for seq, _ in enumerate(store.ticks(10 * SECOND), 1):
        limit = {"amount": 1000 * TOKEN, "period_us": SECOND, "burst": 1000 * TOKEN, "tick_us": TICK}
        answer = store.ask(LimitAsk(key="k", asker=1, seq=seq, seen=seq - 1, want=1000 * TOKEN, **limit))
        assert isinstance(answer, LimitAnswer)
        granted += answer.grant
    steps_of_time = 1 + len(steps)  # each may bring a burst, as after a rest
    assert 10_000 - 1000 * MOST // SECOND * len(steps) <= granted // TOKEN <= 10_000 + 1000 * steps_of_time


@example([(2 * SECOND, -30 * SECOND)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_a_breaker_is_open_for_no_longer_than_that(steps: Steps) -> None:
    """It must not stay open for the hour that the clock went back."""
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


@example([(2 * SECOND, -30 * SECOND)])
@given(anywhere)
@settings(max_examples=40, deadline=None)
def test_slots_of_the_dead_are_free_in_time(steps: Steps) -> None:
    """A host has all slots and dies: others have them once its lease has ended."""
    store, ttl_us, free_at = Store(steps), 4 * SECOND, 0
    store.ask(SlotsAsk(key="k", asker=1, seq=1, capacity=10, want=10, ttl_us=ttl_us))
    for seq, at in enumerate(store.ticks(10 * SECOND), 1):
        answer = store.ask(SlotsAsk(key="k", asker=2, seq=seq, capacity=10, want=10, ttl_us=ttl_us))
        assert isinstance(answer, SlotsAnswer)
        free_at = free_at or (at if answer.held == 10 else 0)
    assert 0 < free_at <= ttl_us + MOST


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
