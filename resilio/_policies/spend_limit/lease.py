"""
The stock of a limit that a fleet shares: money of a period on lease from its store, in memory that processes share.

Two numbers admit: `taken` counts what was ever taken, as `Span` reads it, and may not pass `most`. A courier asks the
store for more, which raises `most`; to give back it takes as a call does, and reports that. Periods are so far apart
in these numbers (`SPACE`) that in another one `most` is below all that may be taken: a lease ends with its period,
without a word written.

While the store is away, calls spend the lease, and then as the option `on_store_down` names.
"""

from __future__ import annotations

from typing import Literal

import attrs

from resilio._native import clock
from resilio._native.shared import Cell, Taken, Words

__all__ = ["CELL_BYTES", "SPACE", "LeasedStock", "Report"]

CELL_BYTES = 320
SPACE = 4
"""The limits between two periods: what is overspent here in one of them is not taken for a part of the next."""
GRACE_NS = 1_000_000_000
"""The time for a first answer; without one the store is taken to be away."""
SOON = 0.05
"""Seconds after which a call may find what it has missed, where the store has some left."""
OnStoreDown = Literal["local", "open", "closed"]

_MOST, _BACK, _BACK_IN, _ANSWERED_IN, _USED, _SPENT, _LEFT, _KNOWN = range(8)
_SHORT, _PEERS, _MISSED, _LEAST_MISSED, _LARGEST, _SINCE, _LOST, _LOW = range(8, 16)
_BEFORE, _OVER = 16, 17


@attrs.frozen
class Report:
    """
    What a process, or those of a host, have had of a period, in billionths.

    Attributes:
        own: Taken, and given back.

        allowed: What they may take, or have taken beyond that.

        back: What was given back.
    """

    own: int
    allowed: int
    back: int

    @property
    def spent(self) -> int:
        """The money spent or reserved."""
        return self.own - self.back

    @property
    def held(self) -> int:
        """The money on lease that is not spent."""
        return self.allowed - self.own

    @property
    def total(self) -> int:
        """All that is out, spent or not."""
        return self.allowed - self.back


class LeasedStock:
    """
    The stock of one policy that a fleet shares; its owner locks, as of the other stocks.

    Attributes:
        cell: The memory.

        on_store_down: What calls get beyond the lease while the store is away.

        peers: How many share, as long as the store has not answered.

        horizon: Of a stock at rest, the cell whose `expires_ns` is when the store is taken to be away; else None.
    """

    def __init__(self, cell: Cell, limit: int) -> None:
        """Begin with what the cell holds."""
        self.cell: Cell = cell
        self.on_store_down: OnStoreDown = "local"
        self.peers: int = 1
        self.horizon: Cell | None = None
        self._limit = limit
        self._taken, self._words = Taken(cell), Words(cell)

    # ---- as the book sees it

    def taken(self, base: int) -> int:
        """Return what the fleet has taken, as far as is known here."""
        spent = self.report(base).spent
        if not self._is_answered(base):
            return base + spent
        return base + max(0, self._words.get(_USED) + spent - self._words.get(_SPENT))

    def take(self, base: int, amount: int, most: int) -> bool:  # noqa: ARG002 - of the whole limit, which others share
        """Take an amount from the lease; without a store, as `on_store_down` names."""
        words, begin = self._words, base * SPACE
        words.most(_LARGEST, amount)
        if self._taken.take(begin, amount, words.get(_MOST)):
            if words.get(_MOST) - self._taken.taken(begin) < words.get(_LOW):
                self.cell.ring()
            return True
        if self.is_away(clock.now_ns()):
            return self._take_alone(base, amount)
        words.add(_MISSED, amount)
        words.least(_LEAST_MISSED, amount)
        self.cell.ring()
        return self._trusts(base, amount)

    def debit(self, base: int, amount: int) -> None:
        """Take an amount, into debt if necessary."""
        self._taken.debit(base * SPACE, amount)

    def give_back(self, amount: int) -> None:
        """Undo the taking of an amount."""
        self._taken.give_back(amount)

    def set(self, taken: int) -> None:
        """Do nothing: what was taken is the fleet's."""

    def holds(self, base: int, amount: int) -> bool:
        """Return True if the lease has this amount."""
        return self.report(base).held >= amount

    def is_new(self, base: int) -> bool:
        """Return True if nothing is on lease, and the store knows what was spent."""
        report = self.report(base)
        return report.held == 0 and report.spent == (self._words.get(_SPENT) if self._is_answered(base) else 0)

    @property
    def soon(self) -> float:
        """Seconds after which more may be here, where the fleet has some."""
        return SOON

    # ---- without the store

    def is_away(self, now_ns: int) -> bool:
        """Return True if the store is taken to be away; of one that has never answered, from a while after a call."""
        ends_ns = max(self.cell.expires_ns, 0 if self.horizon is None else self.horizon.expires_ns)
        if ends_ns:
            return now_ns >= ends_ns
        since_ns = self._words.get(_SINCE)
        if not since_ns:
            self._words.set(_SINCE, now_ns)
        return self._words.get(_LOST) > 0 or (since_ns > 0 and now_ns >= since_ns + GRACE_NS)

    def alone(self, base: int) -> int:
        """Return what may be taken here in this period without the store: the lease, and a share of what was left."""
        is_answered = self._is_answered(base)
        left = self._words.get(_LEFT) if is_answered else self._limit
        peers = self._words.get(_PEERS) or self.peers
        return self._most(base) + left // max(peers, 1)

    def at_risk(self, base: int) -> int:
        """Return what may be spent here beyond the limit because the store is away, where others reach it."""
        if self.on_store_down == "closed" or not self.is_away(clock.now_ns()):
            return 0
        return max(0, self.alone(base) - max(self._most(base), self._taken.taken(base * SPACE)))

    def _take_alone(self, base: int, amount: int) -> bool:
        if self.on_store_down == "local":
            return self._taken.take(base * SPACE, amount, self.alone(base))
        if self.on_store_down == "open":
            self._taken.debit(base * SPACE, amount)
        return self.on_store_down == "open"

    def _trusts(self, base: int, amount: int) -> bool:
        """Let one call pass that finds no lease, where the store has not answered yet, or had enough before a rest."""
        is_answered = self._is_answered(base)
        rests = self.horizon is not None and self._words.get(_LEFT) >= amount
        if self.on_store_down == "closed" or amount > self._limit or (is_answered and not rests):
            return False
        return self._taken.take(base * SPACE, amount, self._most(base) + amount)  # once: then there is a debt

    # ---- as the courier sees it

    def report(self, base: int) -> Report:
        """Return what was had of the period that begins at `base`."""
        begin = base * SPACE
        own = self._taken.taken(begin) - begin
        back = self._words.get(_BACK) if self._words.get(_BACK_IN) == base + 1 else 0
        return Report(own, max(self._words.get(_MOST) - begin, own), back)

    def return_(self, base: int, amount: int) -> None:
        """Give back an amount of the lease: it is taken here, and reported as given back. By one courier at a time."""
        if not self._taken.take(base * SPACE, amount, self._words.get(_MOST)):
            return  # calls have taken it meanwhile
        if self._words.get(_BACK_IN) != base + 1:
            self._words.set(_BACK, 0)
            self._words.set(_BACK_IN, base + 1)
        self._words.add(_BACK, amount)

    def answered(
        self, base: int, *, most: int, spent: int, used: int, known: int, left: int, peers: int, short: bool
    ) -> None:
        """
        Take what an answer brings, in billionths.

        Args:
            base: Where the period begins.

            most: What may be taken in it.

            spent: The amount reported as spent.

            used: What is spent or reserved in the fleet.

            known: The same, and what is on lease.

            left: What is neither.

            peers: Askers, at least 1.

            short: True if leases that are not used are wanted back.
        """
        words = self._words
        words.set(_ANSWERED_IN, 0)  # readers see the lease alone meanwhile
        brought = {_USED: used, _SPENT: spent, _LEFT: left, _KNOWN: known, _SHORT: short, _PEERS: peers, _BEFORE: 0}
        for i, value in {**brought, _OVER: max(0, known - self._limit)}.items():
            words.set(i, value)
        words.set(_BEFORE, base + 1)
        words.most(_MOST, base * SPACE + most)
        words.set(_ANSWERED_IN, base + 1)

    def lost(self) -> None:
        """Note that no answer came: if none ever has, none is waited for."""
        self._words.set(_LOST, 1)

    def missed(self) -> tuple[int, int]:
        """Return what calls have missed since the last time in all, and the least of it."""
        return self._words.empty(_MISSED), self._words.empty(_LEAST_MISSED)

    def ring_below(self, held: int) -> None:
        """Let calls ring for the courier once less than this is held."""
        self._words.set(_LOW, held)

    @property
    def largest(self) -> int:
        """The largest reservation of late."""
        return self._words.get(_LARGEST)

    @largest.setter
    def largest(self, amount: int) -> None:
        self._words.set(_LARGEST, amount)

    def known(self, base: int) -> tuple[int, int, int, bool] | None:
        """Return the store's `known`, `left`, `peers` and `short` of the latest answer; None: of another period."""
        words = self._words
        if not self._is_answered(base):
            return None
        return words.get(_KNOWN), words.get(_LEFT), words.get(_PEERS), words.get(_SHORT) > 0

    def debt(self, base: int) -> int:
        """Return by how much the fleet has overspent the period before, as far as was known here."""
        return self._words.get(_OVER) if self._words.get(_BEFORE) == base - self._limit + 1 else 0

    def _most(self, base: int) -> int:
        return max(self._words.get(_MOST), base * SPACE)

    def _is_answered(self, base: int) -> bool:
        return self._words.get(_ANSWERED_IN) == base + 1
