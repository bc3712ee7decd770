"""
The tie of a spend limit: what its courier reports of a period, and asks for.

The calls of this process, or of its host, spend a lease (`LeasedStock`). While there is plenty it is a part of all that
is left, so that many calls may come at once; where that is little, it is what callers spend in a few ticks. Once the
store has too little for a call of some asker, leases that are not used go back, and the last of the money is granted
call by call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import Answer, StoreProblem
from resilio.sharing._fleet.ask_spend import SpendAnswer, SpendAsk
from resilio.sharing._fleet.store_keys import key_of
from resilio.sharing._fleet.tie import NEVER, Tie

__all__ = ["SpendTie"]

LEASED, ASKED = "leased", "asked"
BILLIONTHS = 1_000
"""Of a millionth of the currency, the unit of asks."""
PART = 8
"""Leases that nothing is spent of are together at most this part of what is left."""
FEW = 16
"""As long as the number of askers is not known, it is taken to be at least this."""
TICKS = 2
"""A lease is at least what is spent in so many ticks, and a call more."""
FADES = 4
"""The ticks in which what callers spend is forgotten."""
KEEPS = 1 / 64
"""By this part the largest reservation is taken to be smaller with each question."""
SOON = 10
"""After an answer the next question may come after this part of a tick."""
SECOND = 1_000_000_000
HOUR_US = 3_600_000_000


class SpendTie(Tie):
    """The tie of a spend limit; see the module."""

    __slots__ = (
        "_asked",
        "_asked_ns",
        "_base",
        "_book",
        "_demand",
        "_ends_ns",
        "_fleet",
        "_key",
        "_keyed",
        "_name",
        "_next_ns",
        "_policy",
        "_seen",
        "_stock",
    )

    def __init__(
        self, policy: Any, gate: Any, cell: Cell, fleet: Any, *, name: str | None = None, key: bytes = b""
    ) -> None:
        """
        Tie a spend limit to its fleet.

        Args:
            policy: The limit.

            gate: Its gate, which has a lease in this cell.

            cell: The cell.

            fleet: The fleet.

            name: Of the policy in the store; None: its own.

            key: Of a keyed policy, in the form that all processes agree on.
        """
        super().__init__(cell)
        self._policy = ref(policy)
        self._book, self._stock = gate.book, gate.book.lease
        self._fleet = fleet
        self._name, self._key = name or policy.name, (gate.stock, key)
        self._keyed = bool(key)
        self._asked: Any = None  # of the question under way
        self._asked_ns = self._next_ns = self._ends_ns = self._seen = 0
        self._base = -1  # of the period asked for last
        self._demand = 0.0  # billionths a second
        self._stock.peers = fleet.peers or 1
        self._use()

    def _use(self) -> None:
        policy = self._policy()
        if policy is not None:
            self._stock.on_store_down = policy.config.on_store_down or self._fleet.on_store_down

    @property
    def is_used(self) -> bool:
        """True as long as the limit's calls spend this lease."""
        return self._book.lease is self._stock

    @property
    def regime(self) -> str:
        """LEASED, or ASKED once too little is left for leases that are not used."""
        known = self._stock.known(self._book.base())
        return ASKED if known is not None and known[3] else LEASED

    @property
    def pace_ns(self) -> int:
        """0 where too little is left for leases, and calls are rejected until an answer comes."""
        return 0 if self.regime == ASKED else NEVER

    @property
    def outstanding(self) -> float:
        """The money on lease here that is not spent, in the currency."""
        if not self.is_used:
            return 0.0
        return float(max(0, self._stock.report(self._book.base()).held) / (BILLIONTHS * 1_000_000))

    @property
    def is_idle(self) -> bool:
        """True if nothing is spent, and nothing is on lease."""
        return self.is_used and self._is_calm and self._stock.is_new(self._book.base())

    def rest(self, horizon: Cell, now_ns: int) -> bool:  # noqa: ARG002 - as ties are let rest
        """Let it rest until a call rings; *horizon*: the cell that expires when the store is taken to be away."""
        self._stock.horizon = horizon
        self._asked_ns = 0
        self._demand = 0.0
        return True

    @property
    def ttl_ns(self) -> int:
        """The time within which it asks: the same for all askers, or a multiple where the store has no time."""
        tick_ns = round(self._fleet.tick * SECOND)
        while self.tick_ns > 2 * tick_ns:
            tick_ns *= 2
        return int(max(5 * tick_ns, SECOND))

    # ---- when

    @property
    def _is_calm(self) -> bool:
        """True if callers spend less than a hundredth of a call in a second."""
        return bool(self._demand <= self._stock.largest / 100)

    def due_ns(self, now_ns: int) -> int:
        """Return when it next wants to ask: once a call finds too little, each tick while money is spent."""
        if not self.is_used:
            return now_ns + SECOND
        if self._asked_ns == 0:
            return now_ns
        if self.rings:
            return self._next_ns
        after_ns = self.ttl_ns // 2 if self._is_calm else self.tick_ns
        return max(self._next_ns, min(self._asked_ns + after_ns, self._ends_ns))

    # ---- what

    def ask(self, now_ns: int) -> Sequence[SpendAsk]:
        """Return the question: what was had of this period, and what calls want."""
        if not self.is_used or self.cell is None:
            return ()
        self._use()
        self._stock.horizon = None
        seq, self._seen = self.cell.number()
        with self._book.locked():
            return (self._ask(now_ns, seq, self._seen),)

    def _ask(self, now_ns: int, seq: int, seen: int) -> SpendAsk:
        stock, span = self._stock, self._book.income.span()
        missed, least_missed = stock.missed()
        elapsed_ns = now_ns - self._asked_ns if self._asked_ns else self.tick_ns
        self._see(stock.report(span.base), span.base, missed, elapsed_ns)
        self._asked_ns, self._base = now_ns, span.base
        self._ends_ns = now_ns + int(span.resets_in * SECOND) + 1
        known = stock.known(span.base)
        held = stock.report(span.base).held
        target = self._target(known, held, missed)
        is_rest = known is not None and known[3] and held < least_missed  # it serves no call here, elsewhere it may
        spare = held if is_rest else held - target
        if spare > 0 and (is_rest or spare > target // 4):
            stock.return_(span.base, spare)
        self._asked = report = stock.report(span.base)
        stock.ring_below(target // 4)
        least = max(0, least_missed - report.held)
        return SpendAsk(
            key=key_of(self._fleet.name, "spend", self._name, repr((*self._key, span.number))),
            asker=self.cell.asker if self.cell is not None else 1,
            seq=seq,
            seen=seen,
            limit=_down(self._book.income.limit),
            total=_up(report.total),
            spent=_up(report.spent),
            known=0 if known is None else _up(known[0]),
            debt=_up(stock.debt(span.base)),
            want=_up(max(least, target - report.held, 0)),
            least=_up(least),
            stands=int(known is not None),
            ttl_us=self.ttl_ns // 1000,
            keep_us=int(span.resets_in * 1_000_000) + HOUR_US,
        )

    def _see(self, report: Any, base: int, missed: int, elapsed_ns: int) -> None:
        """Learn from what callers have spent since the last question: more counts at once, less bit by bit."""
        before = self._asked.spent if self._asked is not None and base == self._base else 0
        wanted = max(0, report.spent - before) + missed
        now = wanted / max(elapsed_ns, self.tick_ns) * SECOND
        part = 1.0 if now > self._demand else min(1.0, elapsed_ns / (FADES * self.tick_ns))
        self._demand += (now - self._demand) * part
        self._stock.largest -= int(self._stock.largest * KEEPS)

    def _target(self, known: tuple[int, int, int, bool] | None, held: int, missed: int) -> int:
        """Return what shall be on lease here."""
        first = max(self._stock.peers, self.cell.peers if self.cell is not None else 0, FEW)
        left, peers, short = (self._book.income.limit, first, False) if known is None else known[1:]
        plenty: int = 0 if short else (left + held) // (PART * max(peers, 1))
        if self._is_calm and not missed:
            return 0 if self._keyed or short else plenty
        needed: int = int(self._demand * TICKS * self.tick_ns / SECOND) + self._stock.largest + missed
        return max(plenty, needed)

    def take(  # type: ignore[override]
        self, asks: Sequence[SpendAsk], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int
    ) -> None:
        """Put what was granted into the lease."""
        if not self.is_used or self.cell is None:
            return
        answer, ask, asked = answers[0], asks[0], self._asked
        if not isinstance(answer, SpendAnswer) or asked is None:
            self._next_ns = now_ns + self.tick_ns
            self._stock.lost()
            return
        if not self.cell.saw(self._seen, ask.seq):
            return  # another courier has had an answer since
        self.cell.answered(now_ns, sent_ns + self.ttl_ns)
        self._stock.answered(
            self._base,
            most=asked.allowed + answer.grant * BILLIONTHS,
            spent=asked.spent,
            used=answer.used * BILLIONTHS,
            known=answer.known * BILLIONTHS,
            left=answer.left * BILLIONTHS,
            peers=answer.peers,
            short=answer.short > 0,
        )
        self._next_ns = now_ns + (self.tick_ns if ask.least > answer.grant else self.tick_ns // SOON)
        self._book.look_again()


def _up(billionths: int) -> int:
    return -(-billionths // BILLIONTHS)


def _down(billionths: int) -> int:
    return billionths // BILLIONTHS
