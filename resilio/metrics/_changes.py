"""Counter of state changes by the new state, such as how often a breaker opened. Costs nothing between changes."""

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
    """Start to count, once for all exporters; later calls do nothing."""
    global _started
    if not _started:
        _started = True
        events.subscribe(_count, kinds=(StateChanged,))


def counted() -> dict[tuple[str, str, str], int]:
    """Return the number of changes by kind, policy and new state since :func:`start`."""
    return dict(_counted)


def _count(event: StateChanged) -> None:
    _counted[event.kind, _label(event.kind, event.name), event.new] += 1


def _label(kind: str, name: str | None) -> str:
    """Return the policy's label; "unnamed" if its name is only that of a lambda or a local function."""
    if name is None or ("<" in name and names.place_of(name, kind) is None):
        return "unnamed"
    return name[:LONGEST_LABEL]
