"""Random sequences of asks, as careless networks bring them: repeated, late, lost, at times that go back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial

from resilio.sharing import Ask, exchange
from resilio.sharing._fleet.ask import TOKEN, LimitAsk, WindowAsk
from resilio.sharing._fleet.ask_breaker import BreakerAnswer, BreakerAsk
from resilio.sharing._fleet.ask_slots import SlotsAsk
from resilio.sharing._fleet.ask_spend import SpendAsk
from resilio.sharing._fleet.rules.rows import State

__all__ = ["KINDS", "Sequence"]

Sequence = list[tuple[Ask, int]]
"""Asks with the store's time in microseconds at each."""

NOW_US = 1_800_000_000_000_000


class _Numbers:
    """The numbers that askers give their asks, and the answers that they have seen."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.asker = chance.choice([1, 2, 3, 2**53 - 1])
        self.seqs: dict[int, int] = {}
        self.seen: dict[int, int] = {}

    def next(self) -> tuple[int, int, int]:
        """Return an asker, the number of its ask, and that of its last answer: now and then repeated, or late."""
        chance = self.chance
        asker = chance.choice([self.asker, chance.randint(1, 4)])
        seq = self.seqs.get(asker, 0) + 1
        if chance.random() < 0.1:
            seq = max(1, seq - chance.randint(1, 3))
        self.seqs[asker] = max(seq, self.seqs.get(asker, 0))
        seen = self.seen.get(asker, 0)
        if chance.random() < 0.8:
            self.seen[asker] = seq
        return asker, seq, min(seen, seq - 1)


def _times(chance: random.Random, tick_us: int) -> Iterator[int]:
    now_us = NOW_US + chance.randint(0, 10**9)
    while True:
        yield now_us
        step = chance.choice([0, chance.randint(1, 1000), tick_us // 4, tick_us, 3 * tick_us, 10 * tick_us])
        now_us += -step if chance.random() < 0.05 else step


def _limit(chance: random.Random, make: type[LimitAsk | WindowAsk] = LimitAsk) -> Sequence:
    amount = chance.choice([1, 10, 1000, 3500, 10**6]) * TOKEN + chance.choice([0, 333_333])
    period_us = chance.choice([1_000_000, 60_000_000, 700_001])
    burst = max(1, int(amount * chance.choice([0.1, 1.0, 3.7])))
    tick_us = chance.choice([50_000, 250_000, 1_000_000])
    numbers, times = _Numbers(chance), _times(chance, tick_us)
    found: Sequence = []
    for _ in range(chance.randint(2, 16)):
        asker, seq, seen = numbers.next()
        most = chance.choice([burst // 4, burst, 2 * burst]) + 1
        ask = make(
            key="k",
            asker=asker,
            seq=seq,
            seen=seen,
            amount=amount,
            period_us=period_us,
            burst=burst,
            left=chance.randint(-most // 4, most // 2),
            kept=chance.choice([0, chance.randint(0, most // 8)]),
            demand=chance.choice([0, chance.randint(0, 3 * amount)]),
            want=chance.randint(0, most),
            least=chance.choice([0, 0, chance.randint(1, most)]),
            cost=chance.choice([TOKEN, 50 * TOKEN]),
            spare=chance.choice([0, chance.randint(0, most)]),
            tick_us=tick_us,
            ttl_us=max(5 * tick_us, 1_000_000),
        )
        found.append((ask, next(times)))
    return found


def _breaker(chance: random.Random) -> Sequence:
    tick_us = chance.choice([50_000, 250_000])
    options = {
        "tick_us": tick_us,
        "failed_share": chance.choice([0, 500_000, 900_000]),
        "slow_share": chance.choice([0, 300_000]),
        "min_calls": chance.choice([1, 20]),
        "consecutive": chance.choice([0, 5, 10]),
        "window_calls": chance.choice([0, 50, 200]),
        "window_us": chance.choice([0, 1_000_000, 60_000_000]),
        "probes": chance.choice([1, 3]),
        "closing": chance.choice([1, 2]),
        "sure": chance.choice([0, 1]),
        "open_us": chance.choice([1, 200_000, 333_333]),
        "max_open_us": chance.choice([1_000_000, 3_000_000]),
        "lease_us": chance.choice([300_000, 3_000_000]),
    }
    numbers, times = _Numbers(chance), _times(chance, tick_us)
    generation, found, health = 0, [], chance.choice([0.0, 0.5, 0.95])
    state: State | None = None
    for _ in range(chance.randint(2, 40)):
        asker, seq, seen = numbers.next()
        calls = chance.choice([0, 1, 12, 60])
        failed = sum(chance.random() > health for _ in range(calls))
        ask = BreakerAsk(
            key="k",
            asker=asker,
            seq=seq,
            seen=seen,
            generation=max(0, generation - chance.choice([0, 0, 0, 0, 1])) + chance.choice([0] * 40 + [3]),
            ok=calls - failed,
            failed=failed,
            slow=chance.randint(0, calls),
            tail=chance.randint(0, failed),
            good_us=chance.choice([0, chance.randint(0, 2 * tick_us)]),
            bad_us=chance.choice([0, chance.randint(0, 2 * tick_us)]),
            gone=chance.choice([0, 0, 2]),
            flying=chance.choice([0, 0, 1]),
            late=chance.choice([0, 0, 1, chance.randint(0, 60)]),
            result=chance.choice([0, 1, 1, 2]),
            holds=chance.choice([0, seen, seq - 1]),
            ready=chance.choice([0, 1, 1]),
            draw=chance.randint(0, 999_999),
            **options,
        )
        now_us = next(times)
        state, answer = exchange(state, ask, now_us)
        assert isinstance(answer, BreakerAnswer)
        generation = answer.generation
        if chance.random() < 0.05:
            health = chance.choice([0.0, 0.5, 0.95])
        found.append((ask, now_us))
    return found


def _slots(chance: random.Random) -> Sequence:
    capacity, ttl_us = chance.choice([1, 3, 20, 1000]), chance.choice([1_000_000, 10_000_000])
    numbers, times = _Numbers(chance), _times(chance, ttl_us // 3)
    found: Sequence = []
    for _ in range(chance.randint(2, 24)):
        asker, seq, seen = numbers.next()
        now = next(times)
        ask = SlotsAsk(
            key="k",
            asker=asker,
            seq=seq,
            seen=seen,
            capacity=capacity,
            kept=chance.choice([0, 0, chance.randint(0, capacity)]),
            want=chance.randint(0, 2 * capacity),
            sure=chance.choice([0, chance.randint(0, capacity)]),
            ends_us=chance.choice([0, 0, 0, now + chance.randint(-ttl_us, ttl_us)]),
            ttl_us=ttl_us,
        )
        found.append((ask, now))
    return found


def _spend(chance: random.Random) -> Sequence:
    limit, ttl_us = chance.choice([1, 50_000_000, 10**15]), chance.choice([1_000_000, 1_250_000])
    numbers, times = _Numbers(chance), _times(chance, ttl_us // 5)
    found: Sequence = []
    for _ in range(chance.randint(2, 24)):
        asker, seq, seen = numbers.next()
        spent = chance.randint(0, limit // 2)
        ask = SpendAsk(
            key="k",
            asker=asker,
            seq=seq,
            seen=seen,
            limit=limit,
            total=spent + chance.choice([0, chance.randint(0, limit // 4)]),
            spent=spent,
            known=chance.randint(0, limit),
            debt=chance.choice([0, 0, 0, chance.randint(0, limit // 4)]),
            want=chance.choice([0, chance.randint(0, limit)]),
            least=chance.choice([0, 0, chance.randint(0, limit // 4)]),
            stands=chance.choice([0, 1]),
            ttl_us=ttl_us,
            keep_us=chance.choice([1_000_000, 86_400_000_000]),
        )
        found.append((ask, next(times)))
    return found


def _reckoned(make: Callable[[random.Random], Sequence], chance: random.Random) -> Sequence:
    """Let some asks have the time that their courier reckons: about right, or as of a clock that was set."""
    found = make(chance)
    for ask, now_us in found:
        ask.by_us = chance.choice([0, 0, now_us + chance.choice([-1, 1]) * chance.choice([0, 1000, 10**6, 10**10])])
    return found


KINDS: dict[str, Callable[[random.Random], Sequence]] = {
    "breaker": partial(_reckoned, _breaker),
    "limit": partial(_reckoned, _limit),
    "slots": partial(_reckoned, _slots),
    "spend": partial(_reckoned, _spend),
    "window": partial(_reckoned, partial(_limit, make=WindowAsk)),
}
"""What makes a sequence of asks of each kind."""
