"""
Registry of the listeners of gates, and of the kinds of events that each gate must therefore record.

A listener belongs to single gates or to all gates. Each group counts its listeners by kind of event, so that adding or
removing one listener costs no walk over the others.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from resilio._events import log
from resilio._events.records import (
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
from resilio._support.after_fork import free_lock

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = [
    "LISTEN",
    "LOG",
    "Subscription",
    "add",
    "attach",
    "covering",
    "current",
    "detach",
    "errors",
    "is_capturing",
    "kinds_of",
    "lock",
    "log_rejections",
    "mask_of",
    "remove",
]

LISTEN = {
    StateChanged: 0,
    Rejected: 1,
    Settled: 2,
    Retried: 4,
    GaveUp: 8,
    HedgeStarted: 16,
    HedgeWon: 32,
    LimitChanged: 64,
    SharingChanged: 0,
}
"""The bits of a gate's `listening` (RS_LISTEN_* of gate.h); changes of states and of sharing are always recorded."""


class Subscription:
    """A listener to some kinds of events, of some gates or of all."""

    __slots__ = ("blamed", "capture", "gates", "kinds", "listener", "number")
    SELECTIVE = False
    """True if `covers` decides for each gate."""

    def __init__(
        self,
        listener: Callable[..., object],
        kinds: tuple[type, ...],
        gates: weakref.WeakSet[Any] | None = None,
        capture: Callable[[], object] | None = None,
    ) -> None:
        """
        Make the subscription; listening begins with `add`.

        Args:
            listener: Called with each event.

            kinds: The kinds of events to listen to.

            gates: The gates to listen to; None: all gates, later ones included.

            capture: See :func:`resilio.events.subscribe`.
        """
        self.listener = listener
        self.kinds = kinds
        self.gates = gates
        self.capture = capture
        self.blamed = False
        self.number = 0

    def covers(self, gate: Gate) -> bool:  # noqa: ARG002 - used by samples
        """Return True if the listener wants events of this gate, one of its gates, now."""
        return True

    def look(self) -> object:
        """Return the value captured for an event, in the thread or task of its origin; None if `capture` raises."""
        try:
            return None if self.capture is None else self.capture()
        except Exception:  # noqa: BLE001 - as for a listener
            return None

    def tell(self, event: Event, *captured: object) -> None:
        """Deliver an event to the listener; an `Exception` that it raises is counted, and logged once."""
        global _errors
        try:
            self.listener(event, *captured)
        except Exception as error:  # noqa: BLE001 - a listener changes nothing
            _errors += 1
            if not self.blamed:
                self.blamed = True
                with contextlib.suppress(Exception):  # a broken log handler changes nothing either
                    log.listener_failed(self.listener, error)

    def also(self, gate: Gate) -> tuple[Gate, ...]:  # noqa: ARG002 - used by a tap
        """Return further gates whose events the listener receives."""
        return ()


class _Listeners:
    """Subscriptions in their order, and the number that want each kind of event."""

    __slots__ = ("all", "wanted")

    def __init__(self) -> None:
        self.all: dict[Subscription, None] = {}
        self.wanted = dict.fromkeys(LISTEN, 0)

    def add(self, subscription: Subscription) -> None:
        """Add one, as the last."""
        self.all[subscription] = None
        for kind in subscription.kinds:
            self.wanted[kind] += 1

    def remove(self, subscription: Subscription) -> None:
        """Remove one; without effect if it is not among them."""
        if subscription in self.all:
            del self.all[subscription]
            for kind in subscription.kinds:
                self.wanted[kind] -= 1

    def mask(self) -> int:
        """Return the kinds of events that any of them wants, as bits."""
        return _bits(kind for kind, count in self.wanted.items() if count)


def _bits(kinds: Iterable[type]) -> int:
    mask = 0
    for kind in kinds:
        mask |= LISTEN[kind]
    return mask


LOG = Subscription(log.state_changed, (StateChanged,))
"""The log's subscription to all state changes; it comes before all others."""
_REJECTIONS = Subscription(log.rejected, (Rejected,))

_lock = threading.RLock()
_gates: weakref.WeakSet[Any] = weakref.WeakSet()
_everywhere = _Listeners()
"""The listeners of all gates, except the selective ones."""
_selective: dict[Subscription, None] = {}
_own: weakref.WeakKeyDictionary[Any, _Listeners] = weakref.WeakKeyDictionary()
"""The listeners of each single gate; for a keyed policy's stage, the listeners of all its keys."""
_numbers = itertools.count(1)
_capturing = 0
_errors = 0
_rejections_logged: bool | None = None


def lock() -> AbstractContextManager[object]:
    """Return the lock to hold while subscriptions change."""
    return _lock


def errors() -> int:
    """Return how often a listener has raised, in this process."""
    return _errors


def add(subscription: Subscription) -> Callable[[], None]:
    """Begin to deliver events to a listener; return a function that ends it."""
    global _capturing
    with _lock:
        subscription.number = next(_numbers)
        _capturing += subscription.capture is not None
        if subscription.SELECTIVE:
            _selective[subscription] = None
            _refresh(_gates)
        elif subscription.gates is None:
            before = _everywhere.mask()
            _everywhere.add(subscription)
            _refresh(_gates if _everywhere.mask() != before else ())
        else:
            for gate in list(subscription.gates):
                _own.setdefault(gate, _Listeners()).add(subscription)
            _refresh(subscription.gates)
    return lambda: remove(subscription)


def remove(subscription: Subscription) -> None:
    """Deliver no more events to a listener; no-op if it has been removed."""
    global _capturing
    with _lock:
        if not subscription.number:
            return
        subscription.number = 0
        _capturing -= subscription.capture is not None
        before = _everywhere.mask()
        _selective.pop(subscription, None)
        _everywhere.remove(subscription)
        for gate in list(subscription.gates or ()):
            _own[gate].remove(subscription)
            if not _own[gate].all:
                del _own[gate]
        _refresh(_gates if subscription.SELECTIVE or _everywhere.mask() != before else subscription.gates or ())


def _refresh(gates: Iterable[Gate]) -> None:
    """Set the events that gates record; after a keyed policy's stage also those of keys with listeners of their own."""
    alone = False
    for gate in list(gates):
        gate.listening = mask_of(gate)
        alone = alone or hasattr(gate, "table")
    for gate in list(_own) if alone else ():
        if gate.entry is not None:
            gate.listening = mask_of(gate)


def is_capturing() -> bool:
    """Return True if a subscription captures values at the origin of its events."""
    return _capturing > 0


def current() -> tuple[Subscription, ...]:
    """Return all subscriptions, in the order in which they began."""
    with _lock:
        found = {*_everywhere.all, *_selective}.union(*(own.all for own in _own.values()))
    return tuple(sorted(found, key=_number))


def _number(subscription: Subscription) -> int:
    return subscription.number


def covering(gate: Gate) -> list[Subscription]:
    """Return the subscriptions to this gate, in the order in which they began. Lock-free, as a Ctrl-C may arrive."""
    found = [*_everywhere.all, *(one for one in tuple(_selective) if one.covers(gate))]
    if _own:
        listeners = len(found)
        for each in _with_stages(gate):
            own = _own.get(each)
            found += () if own is None else [one for one in tuple(own.all) if one not in found]
        if listeners and len(found) > listeners:
            found.sort(key=_number)
    elif _selective:
        found.sort(key=_number)
    return found


def _with_stages(gate: Gate) -> tuple[Gate, ...]:
    """Return the gate and, of a key or an endpoint, the stages of its policy, whose listeners hear all of them."""
    entry = gate.entry
    return (gate, *getattr(gate, "stages", ())) if entry is None else (gate, *entry.table.stages)


def kinds_of(kinds: Iterable[type]) -> tuple[type, ...]:
    """
    Return kinds of events as a tuple.

    Raises:
        TypeError: There is none, or one is not a kind of event.
    """
    wanted = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    if not wanted or not all(kind in LISTEN for kind in wanted):
        names = ", ".join(kind.__name__ for kind in LISTEN)
        raise TypeError(f"kinds must be some of {names}, not {kinds!r}")
    return wanted


def mask_of(gate: Gate) -> int:
    """Return the bit mask of the events that a gate must report."""
    mask = _everywhere.mask()
    for subscription in _selective:
        if subscription.covers(gate):
            mask |= _bits(subscription.kinds)
    for each in _with_stages(gate) if _own else ():
        own = _own.get(each)
        mask |= 0 if own is None else own.mask()
    return mask


def log_rejections(on: bool) -> None:
    """Begin or end the logging of rejections, whatever level the logger has when later policies are made."""
    global _rejections_logged
    with _lock:
        _rejections_logged = on
        remove(_REJECTIONS)
        if on:
            add(_REJECTIONS)


def attach(gate: Gate) -> None:
    """Add a new gate to the subscriptions that cover all policies."""
    if _rejections_logged is None and log.wants_rejections():
        log_rejections(True)
    with _lock:
        _gates.add(gate)
        gate.listening = mask_of(gate)


def detach(gate: Gate) -> None:
    """Remove a key's gate from the registry: the stage of its keyed policy stands for all keys."""
    with _lock:
        _gates.discard(gate)


free_lock(sys.modules[__name__], "_lock")
