"""
Which listeners there are for which gates, and which events gates are asked for because of that.

A gate has its own listeners, and all gates have those of all. Both count how many want each kind of event, so that one
more, or one less, is no work for the others.
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
    "log_refusals",
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
}
"""The bits of a gate's `listening` (RS_LISTEN_* of gate.h); state changes are always recorded."""


class Subscription:
    """A listener to some kinds of events, of some gates or of all."""

    __slots__ = ("blamed", "capture", "gates", "kinds", "listener", "number")
    SELECTIVE = False
    """Whether `covers` has to be asked of each gate."""

    def __init__(
        self,
        listener: Callable[..., object],
        kinds: tuple[type, ...],
        gates: weakref.WeakSet[Any] | None = None,
        capture: Callable[[], object] | None = None,
    ) -> None:
        """
        Listen to nothing yet; `add` begins that.

        Args:
            listener: Called with each event.

            kinds: Of events.

            gates: Whose; None: all, those made later included.

            capture: See :func:`resilio.events.subscribe`.
        """
        self.listener = listener
        self.kinds = kinds
        self.gates = gates
        self.capture = capture
        self.blamed = False
        self.number = 0

    def covers(self, gate: Gate) -> bool:  # noqa: ARG002 - that of samples
        """Tell whether events of this gate, which is among those that it listens to, are wanted now."""
        return True

    def look(self) -> object:
        """Ask for what goes with an event, where it comes from; one that raises gives None."""
        try:
            return None if self.capture is None else self.capture()
        except Exception:  # noqa: BLE001 - as for a listener
            return None

    def tell(self, event: Event, *captured: object) -> None:
        """Give the listener an event; what it raises stays here (KeyboardInterrupt and its like do not)."""
        global _errors
        try:
            self.listener(event, *captured)
        except Exception as error:  # noqa: BLE001 - a listener changes nothing
            _errors += 1
            if not self.blamed:
                self.blamed = True
                with contextlib.suppress(Exception):  # a broken log handler changes nothing either
                    log.listener_failed(self.listener, error)

    def also(self, gate: Gate) -> tuple[Gate, ...]:  # noqa: ARG002 - that of a tap
        """What the listener is told besides."""
        return ()


class _Listeners:
    """Subscriptions in their order, and how many of them want each kind of event."""

    __slots__ = ("all", "wanted")

    def __init__(self) -> None:
        self.all: dict[Subscription, None] = {}
        self.wanted = dict.fromkeys(LISTEN, 0)

    def add(self, subscription: Subscription) -> None:
        self.all[subscription] = None
        for kind in subscription.kinds:
            self.wanted[kind] += 1

    def remove(self, subscription: Subscription) -> None:
        if subscription in self.all:
            del self.all[subscription]
            for kind in subscription.kinds:
                self.wanted[kind] -= 1

    def mask(self) -> int:
        return _bits(kind for kind, count in self.wanted.items() if count)


def _bits(kinds: Iterable[type]) -> int:
    mask = 0
    for kind in kinds:
        mask |= LISTEN[kind]
    return mask


LOG = Subscription(log.state_changed, (StateChanged,))
"""Is told of all state changes, before all others."""
_REFUSALS = Subscription(log.rejected, (Rejected,))

_lock = threading.RLock()
_gates: weakref.WeakSet[Any] = weakref.WeakSet()
_everywhere = _Listeners()
"""Those of all gates, but for the selective ones."""
_selective: dict[Subscription, None] = {}
_own: weakref.WeakKeyDictionary[Any, _Listeners] = weakref.WeakKeyDictionary()
"""Those of one gate each; of a keyed policy's stage, those of all its keys."""
_numbers = itertools.count(1)
_capturing = 0
_errors = 0
_refusals_logged: bool | None = None


def lock() -> AbstractContextManager[object]:
    """Return what is held while subscriptions change."""
    return _lock


def errors() -> int:
    """Return how often a listener has raised, in this process."""
    return _errors


def add(subscription: Subscription) -> Callable[[], None]:
    """Begin to tell a listener; return a function that ends that."""
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
    """Tell a listener no more; one that is not told is none the less."""
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
    """Ask gates for what is wanted of them now; a keyed policy's stage asks its keys, of which some are listened to."""
    alone = False
    for gate in list(gates):
        gate.listening = mask_of(gate)
        alone = alone or hasattr(gate, "table")
    for gate in list(_own) if alone else ():
        if gate.entry is not None:
            gate.listening = mask_of(gate)


def is_capturing() -> bool:
    """Tell whether a subscription wants something from where an event comes from."""
    return _capturing > 0


def current() -> tuple[Subscription, ...]:
    """Return all subscriptions, in the order in which they began."""
    with _lock:
        found = {*_everywhere.all, *_selective}.union(*(own.all for own in _own.values()))
    return tuple(sorted(found, key=_number))


def _number(subscription: Subscription) -> int:
    return subscription.number


def covering(gate: Gate) -> list[Subscription]:
    """Return the subscriptions to this gate, in the order in which they began. Takes no lock: a Ctrl-C may come."""
    found = [*_everywhere.all, *(one for one in tuple(_selective) if one.covers(gate))]
    if _own:
        listeners = len(found)
        for each in _with_stages(gate):
            own = _own.get(each)
            found += () if own is None else tuple(own.all)
        if listeners and len(found) > listeners:
            found.sort(key=_number)
    elif _selective:
        found.sort(key=_number)
    return found


def _with_stages(gate: Gate) -> tuple[Gate, ...]:
    """Return the gate, and of a key those of its keyed policy: a listener to that listens to all its keys."""
    entry = gate.entry
    return (gate,) if entry is None else (gate, *entry.table.stages)


def kinds_of(kinds: Iterable[type]) -> tuple[type, ...]:
    """
    Return kinds of events as a tuple.

    Raises:
        TypeError: Something else is among them, or nothing.
    """
    wanted = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    if not wanted or not all(kind in LISTEN for kind in wanted):
        names = ", ".join(kind.__name__ for kind in LISTEN)
        raise TypeError(f"kinds must be some of {names}, not {kinds!r}")
    return wanted


def mask_of(gate: Gate) -> int:
    """Return for which events a gate must ask us."""
    mask = _everywhere.mask()
    for subscription in _selective:
        if subscription.covers(gate):
            mask |= _bits(subscription.kinds)
    for each in _with_stages(gate) if _own else ():
        own = _own.get(each)
        mask |= 0 if own is None else own.mask()
    return mask


def log_refusals(on: bool) -> None:
    """Log refusals from now on, or no more, whatever the logger is enabled for when later policies are made."""
    global _refusals_logged
    with _lock:
        _refusals_logged = on
        remove(_REFUSALS)
        if on:
            add(_REFUSALS)


def attach(gate: Gate) -> None:
    """Let the subscriptions to all policies cover a new gate."""
    if _refusals_logged is None and log.wants_refusals():
        log_refusals(True)
    with _lock:
        _gates.add(gate)
        gate.listening = mask_of(gate)


def detach(gate: Gate) -> None:
    """Leave a gate to that of a keyed policy, which stands for all its keys."""
    with _lock:
        _gates.discard(gate)


free_lock(sys.modules[__name__], "_lock")
