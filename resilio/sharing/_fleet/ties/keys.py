"""
The tie of a keyed rate limit, spend limit or circuit breaker: the ties of its keys in use, and those at rest.

A key that is not called rests: it needs no exchange, and its first call rings, so that it is asked for again. That call
passes: a limit gives back what it has, and has one token on credit while it rests; a breaker goes by what it has seen
itself until the fleet's state has come. While limits rest, the tie asks for one of them now and then, so that it is
known whether the store is there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import ReferenceType

from resilio._support.after_fork import free_lock
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
from resilio.sharing._fleet.tie import NEVER, Tie

__all__ = ["KeysTie"]

MOST_A_TRIP = 500
"""Keys asked for in one trip; others follow in the next."""
LOOK_NS = 5_000_000
"""The time between two looks at which keys at rest have rung."""
LEASE = 8


class KeysTie(Tie):
    """The tie of a keyed policy; see the module."""

    __slots__ = (
        "__weakref__",
        "_awake",
        "_fleet",
        "_has_leases",
        "_horizon",
        "_lock",
        "_looked_ns",
        "_resting",
        "_under_way",
        "_used",
    )

    def __init__(self, fleet: Any, name: str) -> None:
        """Tie a keyed policy of this name to its fleet; keys are added."""
        super().__init__(None)
        self._fleet = fleet
        self._horizon = fleet.own_region().cell(LEASE, name, b"keys", 64)
        self._awake: dict[Tie, ReferenceType[Any]] = {}
        self._resting: dict[Tie, ReferenceType[Any]] = {}
        self._under_way: list[tuple[Tie, int]] = []
        self._lock = threading.Lock()  # of the two: keys come in any thread
        self._looked_ns = 0
        self._used = self._has_leases = False
        free_lock(self, "_lock")

    def add(self, tie: Tie, policy: ReferenceType[Any]) -> None:
        """Add a key, by the tie of its policy."""
        if tie.outstanding is None:  # a breaker has no leases
            tie.rest(self._horizon, 0)  # until its first call
        else:
            self._has_leases = True
        with self._lock:
            self._resting[tie] = policy

    @property
    def regime(self) -> str | None:
        """The regime of a limit in use; None: none is."""
        return next((tie.regime for tie in list(self._awake) if tie.regime is not None), None)

    @property
    def outstanding(self) -> float | None:
        """Tokens of all keys that are here on lease and not spent; None: there are breakers alone."""
        return sum(tie.outstanding or 0.0 for tie in list(self._awake)) if self._has_leases else None

    def due_ns(self, now_ns: int) -> int:
        """Return when a key in use is due, or that it is to be found out whether the store is there."""
        self._look(now_ns)
        first = min((tie.due_ns(now_ns) for tie in list(self._awake)), default=NEVER)
        if self._resting and self._used and self._has_leases:
            first = min(first, self._horizon.expires_ns - self.ttl_ns // 2)
        return min(first, self._looked_ns + LOOK_NS) if self._any_rings() else first

    def _any_rings(self) -> bool:
        return any(tie.rings for tie in list(self._resting))

    def _look(self, now_ns: int) -> None:
        """Wake the keys that have rung, and forget those whose policy is gone."""
        if now_ns < self._looked_ns + LOOK_NS:
            return
        self._looked_ns = now_ns
        with self._lock:
            for kept in (self._awake, self._resting):
                for tie in [tie for tie, policy in kept.items() if policy() is None or not tie.is_used]:
                    del kept[tie]
            for tie in [tie for tie in self._resting if tie.rings]:
                self._awake[tie] = self._resting.pop(tie)

    def ask(self, now_ns: int) -> Sequence[Ask]:
        """Return the questions of the keys that are due, at most MOST_A_TRIP of them."""
        soon_ns = now_ns + self.tick_ns // 4
        due = [tie for tie in list(self._awake) if tie.due_ns(now_ns) <= soon_ns][:MOST_A_TRIP]
        if not due:
            due += [tie for tie in list(self._resting) if tie.outstanding is not None][:1]
        self._under_way = []
        asks: list[Ask] = []
        for tie in due:
            tie.tick_ns = self.tick_ns
            found = tie.ask(now_ns)
            self._under_way.append((tie, len(found)))
            asks += found
        self._used = self._used or bool(asks)
        return asks

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        """Hand the answers to the keys; those that are not used any more rest."""
        under_way, self._under_way = self._under_way, []
        are_all = all(isinstance(answer, Answer) for answer in answers)
        if any(isinstance(answer, Answer) for answer in answers):
            self._horizon.answered(now_ns, sent_ns + self.ttl_ns)
        first = 0
        for tie, n in under_way:
            if n:
                tie.take(asks[first : first + n], answers[first : first + n], sent_ns, now_ns)
            first += n
            if are_all and tie.is_idle:
                self._rest(tie, now_ns)

    def _rest(self, tie: Tie, now_ns: int) -> None:
        if not tie.rest(self._horizon, now_ns):
            return
        with self._lock:
            policy = self._awake.pop(tie, None) or self._resting.pop(tie, None)
            if policy is not None:
                self._resting[tie] = policy  # behind the others
