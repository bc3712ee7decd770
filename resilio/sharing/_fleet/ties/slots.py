"""
The tie of a bulkhead: how many slots its courier asks for, and what its calls get.

The calls of this process, or of its host, take slots from one table (shared/slots.h) of what the store has leased. With
each ask the tie keeps what calls use, and asks for what they have needed lately and a part more; where calls have found
no slot, for as many more as came since the ask before, and at most twice as many. Where the capacity is less than four
slots for each asker, a part more would be other askers' slots: then a slot is asked for when a call waits, and given
back when it ends. A call that may not queue waits for one answer, if the store had slots for it at the latest one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from weakref import ref

from resilio._native.gates import BulkheadGate, Slots
from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
from resilio.sharing._fleet.ask_slots import SlotsAnswer, SlotsAsk
from resilio.sharing._fleet.tie import NEVER, Tie

__all__ = ["ASKED", "LEASED", "TTL_NS", "SlotsTie"]

LEASED, ASKED = "leased", "asked"

TTL_NS = 10_000_000_000
"""The time that a lease lasts: calls that take seconds must not outlive it because of one lost answer."""
RENEWALS = 3
"""Asks in the time of a lease by a bulkhead that is not used."""
FEWEST = 4
"""Slots for each asker below which they are asked for by each call."""
ENOUGH = 6
"""... and from which they are leased again."""
HEADROOM = 1.25
"""Of the slots needed lately; that many, and one more, are asked for."""
MOST = 0xFFFFF
"""Slots of a fleet, as of shared/slots.h."""
SPARE = 2
"""Slots that are held for calls that come after a rest, as long as there are enough for all askers to do so."""
FADES = 3
"""The ticks in which a need that has ended is forgotten."""
SOON = 10
"""After an answer that brought all that was wanted, the next ask may come after this part of a tick."""
TRIPS = 2
"""A call that may not queue waits for at most this many times the time of a trip."""
ASKS_A_TICK = 5
"""The asks of calls that wait in each tick, where slots are asked for by each call."""


class SlotsTie(Tie):
    """The tie of a bulkhead; see the module."""

    __slots__ = (
        "_asked_ns",
        "_before",
        "_config",
        "_fleet",
        "_is_heard",
        "_is_idle",
        "_is_scarce",
        "_key",
        "_need",
        "_next_ns",
        "_policy",
        "_regime",
        "_seen",
        "_slots",
        "_terms",
        "_used",
        "_want",
    )

    def __init__(self, policy: Any, gate: BulkheadGate, cell: Cell, fleet: Any) -> None:
        """
        Tie a bulkhead to its fleet.

        Args:
            policy: The bulkhead; its options are read as they are at each ask.

            gate: Its gate, which takes slots from this cell.

            cell: The cell.

            fleet: The fleet.
        """
        super().__init__(cell)
        self._policy = ref(policy)
        self._fleet = fleet
        self._slots = Slots(gate)
        self._key = f"{{resilio:{fleet.name}:slots:{policy.name}}}"
        self._config: Any = None
        self._regime = LEASED
        self._need = 0.0  # slots in use lately, at the most
        self._want = 0
        self._is_heard = True  # the last ask has been answered
        self._is_idle = False
        self._is_scarce = False  # there are not enough slots for each asker to have spare ones
        self._asked_ns = self._next_ns = self._seen = self._terms = self._used = self._before = 0
        self._read()
        if not cell.has_courier:
            self._slots.begin_anew()
        if cell.at_ns == 0:
            self._slots.note(policy.config.max_concurrent)

    def _read(self) -> None:
        """Take the options of now."""
        policy = self._policy()
        if policy is None or policy.config is self._config:
            return
        self._config = policy.config
        down = self._config.on_store_down or self._fleet.on_store_down
        trip_ns = round(self._fleet.timeout * TRIPS * 1e9)
        self._slots.use(on_store_down=down, peers=self._fleet.peers or 1, trip_ns=trip_ns)

    @property
    def ttl_ns(self) -> int:
        """The time that a lease lasts from its ask on: ten seconds, at least five ticks."""
        return max(5 * self.tick_ns, TTL_NS)

    @property
    def regime(self) -> str:
        """Either LEASED, or by each call: ASKED."""
        return self._regime

    @property
    def pace_ns(self) -> int:
        """0 where slots are asked for by each call."""
        return 0 if self._regime == ASKED else NEVER

    @property
    def outstanding(self) -> float:
        """Slots that are here on lease and not used."""
        return max(0, self._slots.bound - self._slots.used) if self._slots.is_used else 0.0

    def due_ns(self, now_ns: int) -> int:
        """Return when to ask: soon if a call has found no slot, each tick while slots are needed, else to renew."""
        if not self._slots.is_used or self.cell is None:
            return now_ns + TTL_NS
        if self._asked_ns == 0:
            return now_ns
        renew_ns = self._asked_ns + self.ttl_ns // RENEWALS
        if self.cell.rings:
            return min(self._next_ns, renew_ns)
        return renew_ns if self._is_idle else min(max(self._next_ns, self._asked_ns + self.tick_ns), renew_ns)

    def ask(self, now_ns: int) -> Sequence[SlotsAsk]:
        """Return the ask that renews the lease, for the slots needed now."""
        if not self._slots.is_used or self.cell is None:
            return ()
        self._read()
        elapsed_ns, self._asked_ns = now_ns - self._asked_ns, now_ns
        seq, self._seen = self.cell.number()
        bound = self._slots.bound
        self._terms, kept, sure, self._used, capacity, missed, waiting, ends_us = self._slots.open(self._keep())
        used = self._used
        self._choose(capacity)
        missed = max(0, missed - waiting)  # a call that waits has missed a slot before
        self._see(bound if missed or waiting else used, elapsed_ns)
        self._want = min(capacity, self._wanted(used, bound, missed, waiting, elapsed_ns))
        is_rest = self._want == 0 if self._is_scarce else self._want <= SPARE
        self._is_idle = is_rest and kept <= self._want and not (used or missed or waiting)
        return (
            SlotsAsk(
                key=self._key,
                asker=self.cell.asker,
                seq=seq,
                seen=self._seen,
                capacity=capacity,
                kept=kept,
                want=self._want,
                sure=sure,
                ends_us=ends_us,
                ttl_us=self.ttl_ns // 1000,
            ),
        )

    def _keep(self) -> int:
        """Return the slots to keep beside those in use: slots given up while no ask arrives help no other host."""
        if not self._is_heard:
            return MOST
        return 0 if self._regime == ASKED else self._want

    def _choose(self, capacity: int) -> None:
        """Choose by the number of askers how to take slots."""
        peers = (self.cell.peers if self.cell is not None else 0) or self._fleet.peers or 1
        if capacity < FEWEST * peers:
            self._regime = ASKED
        elif capacity >= ENOUGH * peers:
            self._regime = LEASED

    def _see(self, used: int, elapsed_ns: int) -> None:
        """Learn from the slots in use: more counts at once, less bit by bit."""
        part = 1.0 if used > self._need else min(1.0, elapsed_ns / (FADES * self.tick_ns))
        self._need += (used - self._need) * part

    def _wanted(self, used: int, bound: int, missed: int, waiting: int, elapsed_ns: int) -> int:
        if self._regime == ASKED:
            return used + waiting + min(missed, 1)
        lacking = missed + waiting
        came, self._before = max(0, used + lacking - self._before), used + lacking
        if lacking:  # as many calls may come until the next tick as have come since the ask before
            more = 0 if self._is_scarce else round(came * self.tick_ns / max(1, elapsed_ns))
            return min(bound + lacking + more, 2 * max(1, bound, self._want, waiting))
        if self._is_scarce:
            return max(used, round(self._need))
        return max(SPARE, math.ceil(self._need * HEADROOM) + 1)

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        """Let calls have what was granted, and serve those that wait."""
        if not self._slots.is_used or self.cell is None:
            return
        ask, answer = asks[0], answers[0]
        self._is_heard = isinstance(answer, SlotsAnswer)
        self._next_ns = now_ns + self.tick_ns
        if isinstance(ask, SlotsAsk) and isinstance(answer, SlotsAnswer):
            if not self.cell.saw(ask.seen, ask.seq):
                return  # another courier has had an answer since
            self._grant(ask, answer, sent_ns, now_ns)
        else:
            self._slots.note(0)
            if self.cell.at_ns == 0:
                self._slots.give_up(self._terms)
        self._slots.serve()

    def _grant(self, ask: SlotsAsk, answer: SlotsAnswer, sent_ns: int, now_ns: int) -> None:
        allotment, is_asked = min(answer.held, answer.fair), self._regime == ASKED
        unused = answer.held - max(self._used, round(self._need))
        self._is_scarce = answer.left + unused < SPARE * answer.peers
        end_ns = sent_ns + self.ttl_ns
        self._slots.note(answer.left)
        self._slots.grant(
            ask.seq, self._terms, allotment=allotment, end_ns=end_ns, ends_us=answer.ends_us, eager=is_asked
        )
        if self.cell is not None:
            self.cell.answered(now_ns, end_ns)
        if allotment >= ask.want:
            self._next_ns = now_ns + self.tick_ns // SOON
        elif is_asked:
            self._next_ns = now_ns + self.tick_ns // ASKS_A_TICK

    def down(self, now_ns: int, peers: int) -> None:  # noqa: ARG002 - the cell has the time and the number
        """Serve calls that wait: what they get without a store may be more."""
        if self._slots.is_used:
            self._slots.serve()
