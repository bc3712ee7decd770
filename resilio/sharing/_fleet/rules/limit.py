"""
The rule of a rate limit: leases of tokens inside of the burst.

A process takes tokens as a lease, spends them without asking, and gives the rest back with the next ask. Tokens on
lease count as inside of the burst, so in any time t at most `burst + rate * t` is spent in all:

    F1  `tokens + out <= burst` after each ask, and a holder stops before the store forgets its lease.
    F2  Credit is at most a quarter of the burst, for all askers together, and is paid back with the next ask.
    F3  A lease that does not come back is taken for spent, its credit too; the grant of an answer that was lost comes
        back with the next ask, and a debt that is offered again with it is paid once.
    F4  An asker alone gets what it wants; where demands are above the rate, each gets a fair share (max-min).

The fair share of all is one number, the level: the demands, cut to it, add up to the rate. It is found tick by tick.
Source: Google's Doorman, for leases and the way to begin after a loss.
"""

from __future__ import annotations

import math

from resilio.sharing._fleet.ask import LimitAnswer, LimitAsk
from resilio.sharing._fleet.rules.rows import HEAD, Row, State

__all__ = ["exchange", "keeps_us"]

SECOND = 1_000_000
CREDITS = 4
"""All credit together is at most one part in four of the tokens that are there."""
HEADROOM = 1.1
"""A lease is at most this much of an asker's share of a tick: with more, those that ask first take it from others."""
SPARES = 2
"""Of what is left one part in two goes with the leases, in equal parts, for bursts that come before the next asks."""


class _Limit:
    """The policy's row, by names; a new one where the store has none."""

    __slots__ = (
        "at",
        "bucket",
        "capped",
        "credits",
        "demands",
        "level",
        "out",
        "part",
        "peers",
        "swept",
        "tokens",
        "wanted",
    )

    tokens: float  # millionths that are there; below zero: debts
    part: float  # of a millionth that has come in
    at: float  # when
    out: float  # millionths on lease
    level: float  # millionths a second: the demands, cut to it, add up to the rate
    bucket: float  # the number of the tick that is counted
    demands: float  # of its askers
    capped: float  # the same, cut to the level
    peers: float  # askers that have a lease
    wanted: float  # the demands of the tick before
    swept: float  # when leases were looked at
    credits: float  # millionths of credit that askers have

    def __init__(self, row: Row | None, ask: LimitAsk, now_us: int) -> None:
        if row is None:  # new; or lost, if the asker has had an answer before: then no lease is known
            row = (0 if ask.seen else ask.burst, 0, now_us, 0, rate_of(ask), -1, 0, 0, 1, 0, now_us, 0)
        self.tokens, self.part, self.at, self.out, self.level = row[:5]
        self.bucket, self.demands, self.capped, self.peers, self.wanted, self.swept, self.credits = row[5:]

    def row(self) -> Row:
        """Return the numbers in their order."""
        counts = (self.bucket, self.demands, self.capped, self.peers, self.wanted, self.swept)
        return (self.tokens, self.part, self.at, self.out, self.level, *counts, self.credits)

    def fill(self, ask: LimitAsk, now_us: int) -> None:
        """Let tokens come in that are due."""
        due = (now_us - self.at) * (ask.amount / ask.period_us) + self.part
        self.tokens += math.floor(due)
        self.part = due - math.floor(due)
        self.at = now_us

    def sweep(self, state: State, ask: LimitAsk, now_us: int) -> None:
        """Forget the leases that have ended, once a tick: they are taken for spent. The others are added up anew."""
        if now_us < self.swept + ask.tick_us:
            return
        self.swept = now_us
        leases = [(field, row) for field, row in state.items() if field != HEAD]
        self.out = self.credits = 0
        for field, (_, grant, kept, ends, _, credit, _) in leases:
            if ends > now_us:
                self.out += grant + kept
                self.credits += credit
            else:
                self.tokens -= credit
                del state[field]

    def give_back(self, lease: Row | None, ask: LimitAsk) -> None:
        """End the asker's lease: the rest of it comes back, and all of it if its answer never arrived."""
        debt = min(ask.left, 0)
        back: float = 0
        if lease is not None:
            seq, grant, kept, _, _, credit, paid = lease
            self.out -= grant + kept
            self.credits -= credit
            back = ask.left - debt
            if seq != ask.seen:
                back += grant - max(paid, debt)  # a debt that is offered again is paid once
        self.out += ask.kept
        # a debt is paid in any case, and not with what came in while the bucket was full
        self.tokens = min(self.tokens + back, ask.burst - self.out) + debt

    def count(self, state: State, lease: Row | None, ask: LimitAsk, now_us: int) -> None:
        """Add the asker's demand to those of this tick; with the first ask of a tick, find the level of the last."""
        bucket, rate = now_us // ask.tick_us, rate_of(ask)
        self.peers = len(state) - (HEAD in state) + (lease is None)
        if bucket != self.bucket:
            self._find_level(rate)
            self.wanted = self.demands
            self.bucket, self.demands, self.capped = bucket, 0, 0
        if lease is None or lease[4] != bucket:
            self.demands += ask.demand
            self.capped += min(ask.demand, self.level)

    def _find_level(self, rate: float) -> None:
        if self.demands > rate:
            step = math.sqrt(rate / max(self.capped, 1.0))
            self.level = max(rate / 10_000, min(rate, self.level * (step * math.sqrt(step))))
        else:
            self.level = rate

    def grant(self, ask: LimitAsk) -> int:
        """Take what the asker gets: a share where there is too little for all, all or nothing below `least`."""
        there = max(0, self.tokens)
        if ask.least > 0:
            found = 0 if there < ask.least else min(ask.want, there)
        else:
            is_short = self.wanted > rate_of(ask)
            most = max(ask.cost, self._share(ask, there)) if is_short else ask.want
            found = max(0, min(most, ask.want, there))
            if not is_short:
                part = min(ask.spare, (there - found) / (SPARES * self.peers))
                found += math.floor(part / ask.cost) * ask.cost
        self.tokens -= found
        self.out += found
        return int(found)

    def _share(self, ask: LimitAsk, there: float) -> int:
        """Return an asker's part of what comes in during a tick, and of what was saved up before."""
        part = ask.tick_us / SECOND
        saved = max(0, there - rate_of(ask) * part)
        return math.floor(self.level * part * HEADROOM + saved / self.peers)

    def credit(self, ask: LimitAsk) -> int:
        """Give the asker credit, to spend beyond its grant: its part of a quarter of the tokens that are there."""
        if self.tokens <= 0 or ask.demand == 0:
            return 0
        own = math.floor(ask.demand * (ask.tick_us / SECOND) / 2) + ask.cost
        free = max(0, math.floor(self.tokens / CREDITS) - self.credits)
        found = min(own, math.floor(self.tokens / (CREDITS * self.peers)), free)
        self.credits += found
        return int(found)

    def answer(self, ask: LimitAsk, grant: int, credit: int) -> LimitAnswer:
        """Return the answer with this grant."""
        lacks = ask.least - self.tokens if ask.least > 0 and grant == 0 else 0
        wait = math.ceil(max(0, lacks) / (ask.amount / ask.period_us))
        return LimitAnswer(
            seq=ask.seq, grant=grant, credit=credit, wait_us=wait, peers=int(self.peers), left=int(self.tokens)
        )


def exchange(state: State, ask: LimitAsk, now_us: int) -> LimitAnswer:
    """Exchange an asker's lease for a new one; an ask that arrives again, or late, changes nothing."""
    limit, field = _Limit(state.get(HEAD), ask, now_us), str(ask.asker)
    lease = state.get(field)
    if lease is not None and ask.seq <= lease[0]:
        return limit.answer(ask, int(lease[1]) if ask.seq == lease[0] else 0, 0)
    limit.sweep(state, ask, now_us)
    lease = state.get(field)
    limit.fill(ask, now_us)
    limit.give_back(lease, ask)
    limit.count(state, lease, ask, now_us)
    grant, credit = limit.grant(ask), limit.credit(ask)
    state[field] = (ask.seq, grant, ask.kept, now_us + ask.ttl_us, limit.bucket, credit, min(ask.left, 0))
    state[HEAD] = limit.row()
    return limit.answer(ask, grant, credit)


def keeps_us(ask: LimitAsk) -> int:
    """Return how long the state is kept: longer than a lease, and until the bucket is full without it."""
    return max(4 * ask.ttl_us, 2 * math.ceil(ask.burst / (ask.amount / ask.period_us)))


def rate_of(ask: LimitAsk) -> float:
    """Return the rate in millionths a second."""
    return ask.amount / ask.period_us * SECOND
