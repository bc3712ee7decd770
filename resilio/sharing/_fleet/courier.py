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
from collections.abc import Sequence

from resilio._support.after_fork import free_lock
from resilio.sharing._fleet.ask import Answer, Ask
from resilio.sharing._fleet.tie import NEVER, Tie

__all__ = ["Courier"]

PHASE = 0.1
"""The random part of a tick, either way."""
EARLY = 4
"""Trips that may be ahead of their time at once."""
STRETCH = 8
"""After trips that came early a tick is longer by one part in eight, at most."""
WITHIN_NS = 60_000_000_000
"""The time in which there are no more trips than ticks, those that came early included."""
LONGEST_NS = 2_000_000_000
"""The longest time between two trips after losses."""
TOGETHER = 2
"""Policies that are due within half a tick go along: so those that begin at any times soon go together."""
SHARE = 0.1
"""The share of the store's time that all askers of a fleet shall need at most: then ticks grow."""
EXCHANGE_NS = 50_000
"""The store's time for one exchange, roughly."""


class _Entry:
    """One policy: its tie, when it is due and was answered, whether the last ask was lost, and whether it is alone."""

    __slots__ = ("asks", "due_ns", "heard_ns", "is_alone", "is_lost", "tie")

    def __init__(self, tie: Tie, now_ns: int) -> None:
        self.tie = tie
        self.heard_ns = now_ns
        self.due_ns = NEVER  # not known yet, or not ours
        self.is_lost = self.is_alone = False
        self.asks: Sequence[Ask] = ()  # of the trip under way

    @property
    def is_ours(self) -> bool:
        """True if this process makes the trips for the policy: on a host, one of its processes does."""
        return self.tie.cell is None or self.tie.cell.claim()

    def take(self, answers: Sequence[Answer | None], sent_ns: int, now_ns: int) -> None:
        """Hand out the answers, and note whether there are any."""
        asks, self.asks = self.asks, ()
        peers = _peers(answers)
        self.is_lost = peers == 0
        self.tie.take(asks, answers, sent_ns, now_ns)
        if peers:
            self.heard_ns = now_ns
            if self.tie.cell is not None:  # for all processes of the host
                self.tie.cell.count_peers(peers)

    def look(self, now_ns: int, peers: int) -> None:
        """Let the policy be alone once what the store gave has ended, and end that with the next answer."""
        cell = self.tie.cell
        heard_ns = self.heard_ns if cell is None else max(self.heard_ns, cell.at_ns)
        is_alone = self.is_lost and now_ns - heard_ns >= self.tie.ttl_ns
        if is_alone and not self.is_alone:
            self.tie.down(now_ns, peers)
        elif self.is_alone and not self.is_lost:
            self.tie.up(now_ns)
        self.is_alone = self.is_lost and (is_alone or self.is_alone)


class Courier:
    """
    The courier of one process and fleet.

    Attributes:
        peers: The askers of the fleet, of the last answer; before it, as given, at least 1.

        trips: Trips so far.

        lost: Those of them from which no answer came back.

        answered_ns: When the last answer came; 0: never.

        problem: The error of the store at the latest trip that was lost, as text; "": there was none since the last
            answer.
    """

    def __init__(self, tick_ns: int, *, peers: int | None = None, seed: int | None = None) -> None:
        """
        Make a courier without policies.

        Args:
            tick_ns: The time between trips.

            peers: The askers of the fleet, until an answer has their number; None: not known, 1.

            seed: Of the random phases; None: random.
        """
        self._wanted_ns = tick_ns
        self._random = random.Random(seed)  # noqa: S311 - phases, no secrets
        self._entries: dict[Tie, _Entry] = {}
        self._all: Sequence[_Entry] = ()  # those entries: made anew with each change, so a trip reads it as it is
        self._under_way: list[_Entry] = []
        self._asked = 0  # the asks of the last trip
        self._sent_ns = 0
        self._not_before_ns = 0  # after losses
        self._pace_ns = _with_early(tick_ns)
        self._paid_ns = 0  # the time until which trips have been used up: later than now if some came early
        self._losses = 0
        self._lock = threading.Lock()  # of the entries: policies come and go in any thread
        self.peers: int = peers or 1
        self.trips: int = 0
        self.lost: int = 0
        self.answered_ns: int = 0
        self.problem: str = ""
        free_lock(self, "_lock")

    @property
    def is_down(self) -> bool:
        """True if a policy is alone: the store has been away for longer than what it gave lasts."""
        return any(entry.is_alone for entry in self._all)

    @property
    def tick_ns(self) -> int:
        """The time between trips, without its random part: longer where all askers would need much of the store."""
        return max(self._wanted_ns, int(self.peers * self._asked * EXCHANGE_NS / SHARE))

    @property
    def has_ties(self) -> bool:
        """True if it exchanges for a policy."""
        return bool(self._entries)

    @property
    def rings(self) -> bool:
        """True if a call wants an answer soon, and none has been asked for since; a tie without a cell may want one."""
        return any(entry.tie.cell is None or entry.tie.cell.rings for entry in self._all)

    def add(self, tie: Tie, now_ns: int) -> None:
        """Exchange for one more policy from now on."""
        tie.tick_ns = self._tick()
        with self._lock:
            self._entries[tie] = _Entry(tie, now_ns)
            self._all = tuple(self._entries.values())

    def remove(self, tie: Tie) -> None:
        """Exchange for a policy no more: on a host another process may. An ask under way may still be answered."""
        with self._lock:
            self._entries.pop(tie, None)
            self._all = tuple(self._entries.values())
        if tie.cell is not None:
            tie.cell.release()

    def due_ns(self, now_ns: int) -> int:
        """Return the time of the next trip; with nothing to ask, a time that does not come."""
        soonest, paced, pace_ns = NEVER, NEVER, self.tick_ns
        for entry in self._all:
            entry.due_ns = NEVER
            if entry.is_ours:
                entry.due_ns = due_ns = entry.tie.due_ns(now_ns)
                own_ns = entry.tie.pace_ns
                if own_ns == 0:
                    soonest = min(soonest, due_ns)
                else:
                    paced = min(paced, due_ns)
                    pace_ns = min(pace_ns, own_ns)
        self._pace_ns = _with_early(pace_ns)
        return max(min(soonest, max(paced, self._paid_ns - EARLY * self._pace_ns)), self._not_before_ns)

    def begin(self, now_ns: int) -> list[Ask]:
        """Return what to send now, by the times that `due_ns` has just found; `end` follows, also if it is nothing."""
        soon_ns = now_ns + self.tick_ns // TOGETHER
        self._sent_ns = now_ns
        self._under_way = []
        asks: list[Ask] = []
        ahead_ns = max(0, self._paid_ns - now_ns)
        tick_ns = self._tick() + min(ahead_ns, self.tick_ns // STRETCH)
        for entry in self._all:
            if entry.due_ns > soon_ns:
                continue
            entry.tie.tick_ns = tick_ns
            entry.asks = entry.tie.ask(now_ns)
            if entry.asks:
                self._under_way.append(entry)
                asks += entry.asks
        if asks:
            self._paid_ns = now_ns + min(ahead_ns, EARLY * self._pace_ns) + self._pace_ns
        self._asked = max(len(asks), len(self._entries))
        return asks

    def end(self, answers: Sequence[Answer | None] | None, now_ns: int) -> None:
        """
        Hand out the answers.

        Args:
            answers: In the order of what `begin` has returned; None: none came.

            now_ns: The time.
        """
        entries, self._under_way = self._under_way, []
        if entries:
            found = [None] * sum(len(entry.asks) for entry in entries) if answers is None else answers
            self._count(found, now_ns)
            first = 0
            for entry in entries:
                last = first + len(entry.asks)
                entry.take(found[first:last], self._sent_ns, now_ns)
                first = last
        for entry in self._all:
            if entry.is_lost or entry.is_alone:
                entry.look(now_ns, self.peers)

    def _count(self, answers: Sequence[Answer | None], now_ns: int) -> None:
        """Count the trip; after losses the next one waits, longer each time."""
        self.trips += 1
        peers = _peers(answers)
        if peers:
            self._losses = 0
            self._not_before_ns = 0
            self.answered_ns, self.problem = now_ns, ""
            self.peers = peers
        else:
            self.lost += 1
            self._losses += 1
            most_ns = max(self.tick_ns, min(LONGEST_NS, self.tick_ns << min(self._losses - 1, 16)))
            self._not_before_ns = now_ns + int(self._random.uniform(self.tick_ns / 2, most_ns))

    def _tick(self) -> int:
        """Return the time to the next tick: at random, so that those that begin together do not go on so."""
        return int(_with_early(self.tick_ns) * (1 - PHASE + 2 * PHASE * self._random.random()))


def _with_early(tick_ns: int) -> int:
    """Return a tick that is longer by so much that those of a minute leave time for the trips that come early."""
    return tick_ns + tick_ns * (EARLY + 1) * tick_ns // max(tick_ns, WITHIN_NS - (EARLY + 1) * tick_ns)


def _peers(answers: Sequence[Answer | None]) -> int:
    """Return the number of askers in the answers, at least 1; 0: no answer has come."""
    found = [answer.peers for answer in answers if answer is not None]
    return max(1, *found) if found else 0
