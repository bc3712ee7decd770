"""
The times at which a process exchanges with the store, for all its policies at once. Sans-IO: a thread runs it.

One trip serves all policies: the one that is due takes along those that will be due soon. Ticks have a random phase, so
processes that started together do not ask together. After a loss the next trip is later, up to two seconds, at a random
time: a store that comes back is not met by all at once.

A policy may be due early: calls lack tokens, a probe has ended. A few trips may come early at once; the ticks after
them are longer, until that is made up for. So in any minute there are no more trips than ticks, for all policies.
"""

from __future__ import annotations

import random
import threading

from resilio._native.gates import CourierEntry, CourierTurns
from resilio._support.after_fork import free_lock
from resilio.sharing._fleet.tie import Tie

__all__ = ["Courier"]


class Courier(CourierTurns):
    """
    The courier of one process and fleet. Its turns are native: `due_ns`, then `begin` and `end` of a trip.

    Attributes:
        peers: The askers of the fleet, of the last answer; before it, as given, at least 1.

        trips: Trips so far.

        lost: Those of them from which no answer came back.

        answered_ns: When the last answer came; 0: never.

        problem: The first error of the latest trip, as text; "": all of it was answered.

        broken: The same, with its key, where the policy has other answers of that trip; "": there was none.
    """

    def __init__(self, tick_ns: int, *, peers: int | None = None, seed: int | None = None) -> None:
        """
        Make a courier without policies.

        Args:
            tick_ns: The time between trips.

            peers: The askers of the fleet, until an answer has their number; None: not known, 1.

            seed: Of the random phases; None: random.
        """
        super().__init__(tick_ns, peers or 1)
        self._random = random.Random(seed)  # noqa: S311 - phases, no secrets
        self._entries: dict[Tie, CourierEntry] = {}
        self._all: tuple[CourierEntry, ...] = ()  # made anew with each change, so a trip reads it as it is
        self._lock = threading.Lock()  # of the entries: policies come and go in any thread
        free_lock(self, "_lock")

    @property
    def has_ties(self) -> bool:
        """True if it exchanges for a policy."""
        return bool(self._entries)

    @property
    def rings(self) -> bool:
        """True if a call wants an answer soon, and none has been asked for since; a tie without a cell may want one."""
        return any(entry.rings for entry in self._all)

    def add(self, tie: Tie, now_ns: int) -> None:
        """Exchange for one more policy from now on."""
        tie.tick_ns = self._tick()
        with self._lock:
            self._entries[tie] = CourierEntry(tie, now_ns)
            self._all = tuple(self._entries.values())

    def remove(self, tie: Tie) -> None:
        """Exchange for a policy no more: on a host another process may. An ask under way may still be answered."""
        with self._lock:
            self._entries.pop(tie, None)
            self._all = tuple(self._entries.values())
        if tie.cell is not None:
            tie.cell.release()
