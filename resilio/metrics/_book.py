"""
Reader of all policies, which keeps the totals of those that no longer exist, so that a total never decreases.

The number of names is bounded: policies beyond it are summed under the name "other".
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

from resilio import registry
from resilio._policy.base import Policy
from resilio._support.show import with_article
from resilio.metrics import _changes, _trouble
from resilio.metrics._buckets import Chooser
from resilio.metrics._fork import after_fork
from resilio.metrics._numbers import label_of
from resilio.metrics._read import read_budget, read_policy, read_process
from resilio.metrics._read_keyed import sweep_of
from resilio.metrics._sheet import Sheet
from resilio.metrics._turns import take_turns

__all__ = ["MOST_NAMES", "OTHER", "Book"]

MOST_NAMES = 2000
OTHER = "other"
Own = tuple[str, str]


class Book:
    """
    Numbers of some policies, or of all.

    Args:
        policies: The policies; None: every policy, those made later included.

        choose: Returns the bounds of a duration histogram.

        most: Maximum number of names.
    """

    def __init__(self, policies: Iterable[Policy[Any]] | None, choose: Chooser, most: int = MOST_NAMES) -> None:
        """Read nothing yet."""
        self._policies = None if policies is None else tuple(policies)
        self._choose = choose
        self._most = most
        self._names: set[Own] = set()
        self._beyond: set[Own] = set()  # names of given policies, in excess of `most`
        self._seen: dict[int, tuple[weakref.ref[Any], Sheet]] = {}
        self._gone = Sheet()
        self._lock = Lock()
        _changes.start()
        after_fork(self)

    def read(self) -> Sheet:
        """Return the current numbers."""
        with self._lock:
            before, self._seen = self._seen, {}
            total = Sheet()
            for thing, sheet in self._sheets(before):
                total.add(sheet)
                self._seen[id(thing)] = (weakref.ref(thing), sheet)
            self._retire(before)
            total.add_totals(self._gone)
            self._add_changes(total)
            total.add(read_process())
        return total

    def forked(self) -> None:
        """Renew the lock in a forked child, where a thread of the parent may have held it."""
        self._lock = Lock()

    def _sheets(self, before: dict[int, tuple[weakref.ref[Any], Sheet]]) -> Iterator[tuple[Any, Sheet]]:
        """Yield every policy with its numbers, then every retry budget that one of them uses."""
        budgets: dict[int, tuple[Any, set[Own]]] = {}
        policies = registry.all() if self._policies is None else self._policies
        for number, shown in enumerate(shown for policy in policies for shown in policy._metered()):
            take_turns(number)
            try:
                own, sheet = self._bounded(shown, read_policy(shown, self._choose))
                budget = _budget_of(shown)
            except Exception as error:  # noqa: BLE001 - a user-defined policy may raise anything
                _trouble.happened(f"reading the numbers of {with_article(shown.kind)}", error)
                known = before.get(id(shown))
                if known is not None and known[0]() is shown:
                    yield shown, known[1]
                continue
            yield shown, sheet
            if budget is not None:
                budgets.setdefault(id(budget), (budget, set()))[1].add(own)
        for budget, users in budgets.values():
            yield budget, read_budget(budget, users)

    def _bounded(self, shown: Any, sheet: Sheet) -> tuple[Own, Sheet]:
        own = (shown.kind, label_of(shown))
        if own not in self._names:
            if len(self._names) >= self._most:
                if self._policies is not None:
                    self._beyond.add(own)
                return (own[0], OTHER), sheet.renamed(OTHER)
            self._names.add(own)
        return own, sheet

    def _retire(self, before: dict[int, tuple[weakref.ref[Any], Sheet]]) -> None:
        """Keep the totals of policies that existed at the last reading and no longer do."""
        for identity, (reference, sheet) in before.items():
            now = self._seen.get(identity)
            if now is None or now[0] != reference:
                self._gone.add_totals(sheet)

    def _add_changes(self, total: Sheet) -> None:
        """Add the state changes of all shown names, and under "other" those of the names in excess."""
        full = len(self._names) >= self._most
        for (kind, policy, state), count in _changes.counted().items():
            if (kind, policy) in self._names:
                total.count("state_changes", count, kind, policy, state)
            elif full and (self._policies is None or (kind, policy) in self._beyond):
                total.count("state_changes", count, kind, OTHER, state)


def _budget_of(shown: Any) -> Any:
    """Return the budget of a policy's retries and hedges; for a keyed policy, the one that its keys share."""
    gate = shown.gates[0]
    return sweep_of(shown).budget if hasattr(shown, "_owner") else getattr(gate, "budget", None)
