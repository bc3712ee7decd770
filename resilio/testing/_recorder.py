"""Recorder of policies' events: state changes, rejections, retries and ends of calls, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from resilio import events
from resilio.events import (
    Event,
    GaveUp,
    HedgeStarted,
    HedgeWon,
    LimitChanged,
    Rejected,
    Retried,
    Settled,
    SharingChanged,
    StateChanged,
)

__all__ = ["RecordedEvents", "record_events"]

E = TypeVar("E", StateChanged, Rejected, Settled, Retried, GaveUp, HedgeStarted, HedgeWon, LimitChanged, SharingChanged)


class RecordedEvents(list[Event]):
    """The events so far, oldest first: a list with queries for tests."""

    def of(self, kind: type[E], name: str | None = None) -> list[E]:
        """Return the events of one class, of policies named `name` or "kind:name"; None: of all policies."""
        return [event for event in self if isinstance(event, kind) and name in (None, event.name, _full(event))]

    def states(self, name: str | None = None) -> list[str]:
        """Return the states entered, in order, by policies named `name`; None: by all."""
        return [change.new for change in self.of(StateChanged, name)]

    def reasons(self, name: str | None = None) -> Counter[str]:
        """Return the number of rejections by reason."""
        return Counter(rejection.reason for rejection in self.of(Rejected, name))

    def outcomes(self, name: str | None = None) -> Counter[str]:
        """Return the number of ended calls by outcome."""
        return Counter(end.outcome for end in self.of(Settled, name))


def _full(event: Event) -> str:
    return f"{event.kind}:{event.name}"


@contextmanager
def record_events(
    policy: Any = None, *, kinds: Iterable[type] = (StateChanged, Rejected, Settled, Retried, GaveUp)
) -> Iterator[RecordedEvents]:
    """
    Record the events that happen inside the block.

    Args:
        policy: The policy or pipeline to listen to; None: all, those made inside the block included.

        kinds: Classes of events to record; :mod:`resilio.events` also has those of hedges and limits.
    """
    recorded = RecordedEvents()
    unsubscribe = events.subscribe(recorded.append, policy=policy, kinds=kinds)
    try:
        yield recorded
    finally:
        unsubscribe()
