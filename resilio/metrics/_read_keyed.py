"""
The numbers of a keyed policy: the sums over the gates of all keys, evicted ones included.

Keys are read in small batches, so that calls proceed meanwhile: a hundred thousand take longer than a call may wait.
No key is referenced while others are read, since that would prevent its eviction. Each is read once: a key that is
evicted before its turn leaves its gates to the sweep.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from threading import Lock
from time import sleep, thread_time_ns
from typing import Any

from resilio._native import clock, keyed
from resilio._native.keyed import Sums
from resilio._support.after_fork import free_lock
from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._fork import after_fork
from resilio.metrics._numbers import BUDGET_EVENTS, Numbers, specific

__all__ = ["Sweep", "sweep_of"]

AT_A_TIME = 100
"""Keys read before the GIL is yielded to other threads, about half a millisecond."""
LONG_NS = 50_000_000
"""Processor time of a sweep; shorter sweeps are repeated at each request."""
SHARE = 20
"""The result of a longer sweep is reused for this multiple of its time, so that sweeps take 5 % of a core at most."""
Read = tuple[Sums, Numbers, Numbers]

_SUMMED = {name for name, one in CATALOGUE.items() if one.type == "counter" or one.merge == "sum"}
_GROWING = {name for name, one in CATALOGUE.items() if one.type == "counter"}
_lock = Lock()
free_lock(sys.modules[__name__], "_lock")
_sweeps: weakref.WeakKeyDictionary[Any, Sweep] = weakref.WeakKeyDictionary()


def sweep_of(shown: Any) -> Sweep:
    """
    Return the one sweep of a stage of a keyed policy, which all exporters share.

    Args:
        shown: The stage.
    """
    with _lock:
        found = _sweeps.get(shown)
        if found is None:
            found = _sweeps[shown] = Sweep(shown)
            shown._owner._heirs.append(found)
    return found


class Sweep:
    """
    Reader of one stage of a keyed policy.

    Attributes:
        budget: Retry budget that all keys share; None: there is none, or each key has its own.
    """

    def __init__(self, shown: Any) -> None:
        """
        Start without numbers; keys evicted from now on leave their counters here.

        Args:
            shown: The stage.
        """
        self._owner = weakref.ref(shown._owner)
        self._stage = weakref.ref(shown.gates[0])
        self._index: int = shown.gates[0].index
        self.budget: Any = None
        self._gone: Numbers = {}
        self._left: dict[Any, list[Any]] | None = None  # gates of keys that were evicted during the current sweep
        self._last: Read | None = None
        self._again_ns = 0
        self._lock = Lock()
        after_fork(self)

    def forked(self) -> None:
        """Renew the locks in a forked child, where a thread of the parent may have held them."""
        global _lock
        _lock = self._lock = Lock()
        self._left = None

    def miss(self, gates: tuple[Any, ...]) -> None:
        """
        Leave an evicted key to the current sweep. Called with the lock of all tables held.

        Args:
            gates: Gates of its policy, which still have their key.
        """
        gate = gates[self._index]
        if self._left is not None:
            self._left.setdefault(gate.entry.key, []).append(gate)

    def inherit(self, gates: tuple[Any, ...]) -> None:
        """
        Take over the counters of a key whose policy is dead. Called with the lock of all tables held.

        Args:
            gates: Gates of the policy.
        """
        _fold(self._gone, _growing(self._specific(gates[self._index])))

    def read(self) -> Read:
        """
        Return the sums over all gates, the numbers of their kind, and the numbers of the table.

        They are current, or up to `SHARE` times the duration of a long sweep old.
        """
        with self._lock:
            if self._last is None or clock.now_ns() >= self._again_ns:
                begun_ns = thread_time_ns()  # processor time: neither yields nor a busy machine make a sweep long
                self._last = self._sweep()
                took_ns = thread_time_ns() - begun_ns
                self._again_ns = 0 if took_ns < LONG_NS else clock.now_ns() + SHARE * took_ns
            return self._last

    def _sweep(self) -> Read:
        owner: Any = self._owner()
        stage: Any = self._stage()
        sums = Sums(stage)
        with keyed._lock:  # no key is evicted in between
            sums.add([stage, *stage.left()])
            numbers, keys = dict(self._gone), list(owner)
            self._add_all(numbers, (), stage.left())
            self._left = {}
        try:
            for gates, gone in self._gates(owner._table, keys):
                sums.add([*gates, *gone])
                self._add_all(numbers, gates, gone)
                sleep(0)
        finally:
            self._left = None
        return sums, numbers, self._table_of(owner)

    def _gates(self, table: Any, keys: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield the gates of a batch of keys: of the present ones, and of those evicted since the sweep began."""
        left, at = self._left, iter(keys)
        while some := list(islice(at, AT_A_TIME)):
            policies = [policy for key in some if (policy := table.get(key)) is not None]
            gone = [gate for key in some if left for gate in left.pop(key, ())]
            yield [policy.gates[self._index] for policy in policies], gone
        shared = self._shared()
        yield ([shared], []) if self._is_used() else ([], [shared])

    def _add_all(self, numbers: Numbers, gates: Iterable[Any], gone: Iterable[Any]) -> None:
        for gate in gates:
            _fold(numbers, self._specific(gate))
        for gate in gone:
            _fold(numbers, _growing(self._specific(gate)))

    def _specific(self, gate: Any) -> Numbers:
        """Return the numbers of a key's gate, its own budget included; none if it raises."""
        with suppress(Exception):
            numbers = specific(gate.policy, gate)
            budget = getattr(gate, "budget", None)
            shared = self._shared()
            if budget is not None and gate is not shared and budget is shared.budget:
                self.budget = budget
            elif budget is not None and (gate is not shared or (self._is_used() and self.budget is None)):
                _add_budget(numbers, budget)
            return numbers
        return {}

    def _shared(self) -> Any:
        """Return the gate of the overflow policy, which the keys in excess of `max_keys` share."""
        stage: Any = self._stage()
        return stage.table.overflow.gates[self._index]

    def _is_used(self) -> bool:
        table: Any = self._shared().entry.table
        return bool(table.overflowed or table.errors)

    def _table_of(self, owner: Any) -> Numbers:
        table = owner._table
        if self._index:
            return {}  # one table serves all stages
        return {
            ("keys",): len(table),
            ("keys_limit",): owner.config.max_keys,
            ("keys_evicted",): table.evicted,
            ("keys_overflowed",): table.overflowed,
            ("keyless",): table.errors,
        }


def _add_budget(numbers: Numbers, budget: Any) -> None:
    status = budget._status()
    numbers["retry_budget",] = status["balance"]
    numbers["retry_budget_limit",] = budget.config.cap
    for event, counter in BUDGET_EVENTS.items():
        numbers["retry_budget_events", event] = status[counter]


def _growing(numbers: Numbers) -> Numbers:
    return {key: value for key, value in numbers.items() if key[0] in _GROWING}


def _fold(total: Numbers, numbers: Numbers) -> None:
    """Merge the numbers of one gate into the total."""
    for key, value in numbers.items():
        known = total.get(key)
        if known is None:
            total[key] = value
        elif key[0] in _SUMMED:
            total[key] = known + value
        else:
            total[key] = max(known, value) if CATALOGUE[key[0]].merge == "max" else min(known, value)
