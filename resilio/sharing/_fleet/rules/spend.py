"""
The rule of a spend limit: leases of money, which last as long as their period.

Nothing comes in during a period, so a lease need not end: its holder may spend it whenever, with or without the store.
Each asker reports what it has had of the period in all, and no differences: so an ask that is lost, repeated or late is
made good by the next one.

    M1  What all have had is at most the limit, but for what their calls have cost beyond their reservations, and for
        what askers have spent without the store.
    M2  A lease comes back when its holder reports less. That of one that died was spent, as far as can be known: what
        is left of it is not spent again in this period.
    M3  A store that has lost its state gives nothing until all living askers have asked again; what others had counts,
        as far as any of them knew.
    M4  An overspend is the debt of the next period.
"""

from __future__ import annotations

import math

from resilio.sharing._fleet.ask_spend import SpendAnswer, SpendAsk
from resilio.sharing._fleet.rules.rows import HEAD, Row, State

__all__ = ["exchange", "keeps_us"]

SEQ, TOTAL, SPENT, GRANT, TURN = range(5)
"""The numbers of an asker's row."""
SHORT_FOR = 4
"""The turns for which leases that are not used are wanted back after there was too little."""


class _Money:
    """The period's row, by names; a new one where the store has none."""

    __slots__ = (
        "at",
        "debt",
        "floor",
        "gone",
        "learns_until",
        "members",
        "peers",
        "short_until",
        "spent",
        "total",
        "turn",
    )

    total: float  # millionths that askers have had, their leases included
    spent: float  # of it, spent or reserved
    gone: float  # millionths that askers had whose rows were lost, and that have not asked since
    debt: float  # of the period before
    floor: float  # while it learns: what all had before the state was lost
    learns_until: float
    at: float  # the time
    turn: float  # the number of the turn that is counted
    members: float  # its askers
    peers: float  # those of the turn before
    short_until: float

    def __init__(self, row: Row | None, now_us: int) -> None:
        found = (0, 0, 0, 0, 0, 0, -1, 0, 1, 0) if row is None else row
        self.total, self.spent, self.gone, self.debt, self.floor, self.learns_until = found[:6]
        self.turn, self.members, self.peers, self.short_until = found[6:]
        self.at = now_us

    def row(self) -> Row:
        """Return the numbers in their order."""
        money = (self.total, self.spent, self.gone, self.debt, self.floor, self.learns_until)
        return (*money, self.turn, self.members, self.peers, self.short_until)

    @property
    def known(self) -> float:
        """All that is spent, reserved or on lease, as far as is known."""
        return max(self.total + self.gone + self.debt, self.floor)

    def learn(self, row: Row | None, ask: SpendAsk) -> None:
        """Begin to learn if the asker's row was lost; end it when all had the time to ask."""
        if row is None and ask.stands > 0:
            self.floor = max(self.floor, ask.known)
            self.learns_until = self.at + ask.ttl_us
        elif self.floor > 0 and self.at >= self.learns_until:
            self.gone += max(0, self.floor - (self.total + self.gone + self.debt))
            self.floor = 0

    def count(self, row: Row | None, ask: SpendAsk) -> None:
        """Count the asker among those of this turn."""
        turn = self.at // ask.ttl_us
        if turn != self.turn:
            self.peers = max(1, self.members)
            self.turn, self.members = turn, 0
        if row is None or row[TURN] != turn:
            self.members += 1

    def report(self, row: Row | None, ask: SpendAsk) -> None:
        """Take what the asker has had in place of what it had before."""
        self.debt = max(self.debt, ask.debt)
        self.total += ask.total - (0 if row is None else row[TOTAL])
        self.spent += ask.spent - (0 if row is None else row[SPENT])

    def grant(self, ask: SpendAsk) -> int:
        """Give the asker what it wants, but no more than a share of the rest, and nothing that serves no call."""
        there = 0 if self.floor > 0 else max(0, ask.limit - self.known)
        found = min(ask.want, there, max(ask.least, math.floor(there / self.peers)))
        if found < ask.least:
            self.short_until = self.at + SHORT_FOR * ask.ttl_us
            return 0
        self.total += found
        return int(found)

    def answer(self, ask: SpendAsk, grant: float) -> SpendAnswer:
        """Return the answer with this grant."""
        return SpendAnswer(
            seq=ask.seq,
            grant=int(grant),
            used=int(max(0, self.spent + self.gone + self.debt)),
            known=int(max(0, self.known)),
            left=int(max(0, ask.limit - self.known)),
            peers=int(max(self.peers, self.members)),
            short=int(self.at < self.short_until),
        )


def exchange(state: State, ask: SpendAsk, now_us: int) -> SpendAnswer:
    """Take what an asker reports, and grant it more; an ask that arrives again, or late, changes nothing."""
    money, field = _Money(state.get(HEAD), now_us), str(ask.asker)
    row = state.get(field)
    if row is not None and ask.seq <= row[SEQ]:
        return money.answer(ask, row[GRANT] if ask.seq == row[SEQ] else 0)
    money.learn(row, ask)
    money.count(row, ask)
    money.report(row, ask)
    grant = money.grant(ask)
    state[field] = (ask.seq, ask.total + grant, ask.spent, grant, money.turn)
    state[HEAD] = money.row()
    return money.answer(ask, grant)


def keeps_us(ask: SpendAsk) -> int:
    """Return how long the state is kept: as long as it is of use."""
    return ask.keep_us
