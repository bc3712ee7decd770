"""
The numbers of a keyed policy: those of all keys' gates as one, and of the keys that are gone.

Keys are looked at a few at a time, so that calls go on meanwhile: a hundred thousand take longer than a call may wait.
None is held on to while others are looked at, which would keep it from being forgotten. Each is read once: a key that
is forgotten before its turn leaves its gates to whoever looks.
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
from resilio._native.sums import Sums
from resilio._support.after_fork import free_lock
from resilio.metrics._catalogue import CATALOGUE
from resilio.metrics._fork import after_fork
from resilio.metrics._numbers import BUDGET_EVENTS, Numbers, specific

__all__ = ["Sweep", "sweep_of"]

AT_A_TIME = 100
"""Keys that are looked at before somebody else has the interpreter: some half a millisecond."""
LONG_NS = 50_000_000
"""What takes less of a core is done each time that somebody asks."""
SHARE = 20
"""What takes more is told again until so many times as long has passed: a twentieth of one core is for it."""
Read = tuple[Sums, Numbers, Numbers]

_SUMMED = {name for name, one in CATALOGUE.items() if one.type == "counter" or one.merge == "sum"}
_GROWING = {name for name, one in CATALOGUE.items() if one.type == "counter"}
_lock = Lock()
free_lock(sys.modules[__name__], "_lock")
_sweeps: weakref.WeakKeyDictionary[Any, Sweep] = weakref.WeakKeyDictionary()


def sweep_of(shown: Any) -> Sweep:
    """
    Return what reads a stage of a keyed policy, for all who ask.

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
    Reads one stage of a keyed policy.

    Attributes:
        budget: What pays for retries and hedges of all keys; None: nothing, or each key has its own.
    """

    def __init__(self, shown: Any) -> None:
        """
        Have read nothing; keys that go from now on leave their counters here.

        Args:
            shown: The stage.
        """
        self._owner = weakref.ref(shown._owner)
        self._stage = weakref.ref(shown.gates[0])
        self._index: int = shown.gates[0].index
        self.budget: Any = None
        self._gone: Numbers = {}
        self._left: dict[Any, list[Any]] | None = None  # gates of keys that went during the sweep under way
        self._last: Read | None = None
        self._again_ns = 0
        self._lock = Lock()
        after_fork(self)

    def forked(self) -> None:
        """Be usable in the child of a fork, whoever was reading."""
        global _lock
        _lock = self._lock = Lock()
        self._left = None

    def miss(self, gates: tuple[Any, ...]) -> None:
        """
        Have the sweep under way look at a key that leaves its table. Called with the lock of all tables held.

        Args:
            gates: Of its policy; they have their key still.
        """
        gate = gates[self._index]
        if self._left is not None:
            self._left.setdefault(gate.entry.key, []).append(gate)

    def inherit(self, gates: tuple[Any, ...]) -> None:
        """
        Take over what a key has counted whose policy is dead. Called with the lock of all tables held.

        Args:
            gates: Of the policy.
        """
        _fold(self._gone, _growing(self._specific(gates[self._index])))

    def read(self) -> Read:
        """
        Return what all gates have counted, what such gates have besides, and the numbers of the table.

        It is that of now, or of a while ago if it takes long.
        """
        with self._lock:
            if self._last is None or clock.now_ns() >= self._again_ns:
                begun_ns = thread_time_ns()  # others have their turn meanwhile, and a busy machine is no long look
                self._last = self._sweep()
                took_ns = thread_time_ns() - begun_ns
                self._again_ns = 0 if took_ns < LONG_NS else clock.now_ns() + SHARE * took_ns
            return self._last

    def _sweep(self) -> Read:
        owner: Any = self._owner()
        stage: Any = self._stage()
        sums = Sums(stage)
        with keyed._lock:  # no key goes between these
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
        """Give the gates of a few keys at a time: of those there are, and of those gone since the beginning."""
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
        """What a key's gate has, its own budget included; one that raises has nothing."""
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
        """The gate of the policy that keys share for which there is no room."""
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
    """Merge what one gate has into what all have."""
    for key, value in numbers.items():
        known = total.get(key)
        if known is None:
            total[key] = value
        elif key[0] in _SUMMED:
            total[key] = known + value
        else:
            total[key] = max(known, value) if CATALOGUE[key[0]].merge == "max" else min(known, value)
