"""Counts changes of state by the new state: how often a breaker has opened. Costs nothing but on a change."""

from __future__ import annotations

from collections import Counter

from resilio import events
from resilio._registry import names
from resilio.events import StateChanged
from resilio.metrics._numbers import LONGEST_LABEL

__all__ = ["counted", "start"]

_counted: Counter[tuple[str, str, str]] = Counter()
_started = False


def start() -> None:
    """Count from now on, for all who look; once is enough."""
    global _started
    if not _started:
        _started = True
        events.subscribe(_count, kinds=(StateChanged,))


def counted() -> dict[tuple[str, str, str], int]:
    """Return how often which (kind, policy) went to which state since somebody first looked."""
    return dict(_counted)


def _count(event: StateChanged) -> None:
    _counted[event.kind, _label(event.kind, event.name), event.new] += 1


def _label(kind: str, name: str | None) -> str:
    """The policy's label: that of one which only a lambda or a local function gave a name is "unnamed"."""
    if name is None or ("<" in name and names.place_of(name, kind) is None):
        return "unnamed"
    return name[:LONGEST_LABEL]
