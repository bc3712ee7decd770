"""Reader of all policies for all viewers, in slices too short to delay guarded calls."""

from __future__ import annotations

import itertools
import os
import platform
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from resilio import registry
from resilio._composition.pipeline import all_stacks
from resilio._context.process_switch import note
from resilio._native import clock
from resilio._policy.base import Policy
from resilio.live._endpoints import EndpointRow, endpoints_of
from resilio.live._journal import Journal
from resilio.live._rows import Row

__all__ = ["SLICE", "Sampler", "Tick", "pause"]

SLICE = 100
"""
Number of policies read before the GIL is yielded to other threads, about half a millisecond. A quarter as many in a
full snapshot.
"""


@attrs.frozen
class Tick:
    """
    Changes found by one reading.

    Attributes:
        changed: For each policy that changed, its id and the changed fields; for a new one all fields and its
            description.

        removed: Ids of policies that no longer exist.

        events: Events since the last reading, oldest first.
    """

    changed: list[dict[str, Any]]
    removed: list[int]
    events: list[dict[str, Any]]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed or self.events)


class Sampler:
    """
    All policies of this process, or those given.

    Args:
        journal: Their history.

        policies: Returns the policies to show; None: every policy there is.
    """

    def __init__(self, journal: Journal, policies: Callable[[], tuple[Policy[Any], ...]] | None = None) -> None:
        self.journal = journal
        self._policies = registry.all if policies is None else policies
        self._ids: weakref.WeakKeyDictionary[Policy[Any], int] = weakref.WeakKeyDictionary()
        self._next_id = itertools.count(1)
        self._rows: dict[int, Row] = {}
        self._last_event = 0  # id of the last event returned

    def id_of(self, policy: Policy[Any]) -> int:
        """Return the id of a policy, the same for as long as the policy exists."""
        ident = self._ids.get(policy)
        return self._ids.setdefault(policy, next(self._next_id)) if ident is None else ident

    def find(self, ident: int) -> Policy[Any] | None:
        """Return the policy with this id, or None."""
        return next((shown for shown in self._shown() if self._ids.get(shown) == ident), None)

    def read(self) -> Tick:
        """Read all policies, and return the changes since the last reading."""
        self.journal.look()
        seen: set[int] = set()
        changed = list(self._changes(seen))
        removed = [ident for ident in self._rows if ident not in seen]
        for ident in removed:
            del self._rows[ident]
        events = self.journal.since(self._last_event)
        self._last_event = events[-1]["id"] if events else self._last_event
        return Tick(changed, removed, events)

    def _changes(self, seen: set[int]) -> Iterator[dict[str, Any]]:
        stacked = self._stacked()
        for number, policy in enumerate(self._shown(), 1):
            ident = self.id_of(policy)
            seen.add(ident)
            row, new = self._rows.get(ident), {}
            if row is None:
                made = EndpointRow if policy.kind == "endpoint" else Row
                row = self._rows[ident] = made(ident, policy, self.journal.past_of(policy))
                new = row.describe()
            inside = {self.id_of(part): None for part in _within(policy)}
            news = row.read(clock.now_ns(), inside | stacked.get(ident, {}))
            if new or news:
                yield {"id": ident, **new, **news}
            pause(number, SLICE)

    def _shown(self) -> Iterator[Any]:
        """Yield the policies, each pool followed by its endpoints."""
        for policy in self._policies():
            yield policy
            yield from endpoints_of(policy)

    def _stacked(self) -> dict[int, dict[int, None]]:
        """Return the ids of the policies under the outermost decorator of each stack, by its id."""
        found: dict[int, dict[int, None]] = {}
        for number, stack in enumerate(all_stacks(), 1):
            outer = stack.config.policies[0]
            ids = {self.id_of(part): None for part in _within(stack) if part is not outer}
            found.setdefault(self.id_of(outer), {}).update(ids)
            pause(number, SLICE)
        return found

    def rest(self) -> None:
        """Drop the rows, so that the sampler costs nothing without viewers."""
        self._rows.clear()

    @property
    def rows(self) -> list[Row]:
        """Rows of the policies as last read."""
        return list(self._rows.values())

    def _everything(self) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(self.rows, 1):
            yield row.describe() | row.fields
            pause(number)

    def snapshot(self) -> dict[str, Any]:
        """Return the full state as last read, for a new viewer."""
        return {
            "process": _process(),
            "policies": list(self._everything()),
            "events": [event for event in self.journal.since(0) if event["id"] <= self._last_event],
        }


def _within(policy: Any) -> Iterator[Any]:
    """Yield the policies that a pipeline is made of, outermost first, each with those inside; a pool has endpoints."""
    for part in getattr(getattr(policy, "config", None), "policies", ()):
        yield part
        yield from _within(part)
    yield from endpoints_of(policy)


def pause(number: int, at_a_time: int = SLICE // 4) -> None:
    """Yield the GIL to other threads after every `at_a_time` policies."""
    if number % at_a_time == 0:
        time.sleep(0)


def _process() -> dict[str, Any]:
    where = {"pid": os.getpid(), "python": platform.python_version(), "host": platform.node(), "now": round(_now(), 3)}
    return {**where, "disabled": note()}


def _now() -> float:
    return time.time()  # wall clock: people read it
