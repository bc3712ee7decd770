"""Who listens to what, and which events gates are asked for because of that."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from resilio import _log
from resilio._event_records import (
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

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = [
    "LISTEN",
    "LOG",
    "Subscription",
    "add",
    "attach",
    "capturing",
    "change",
    "current",
    "detach",
    "errors",
    "kinds_of",
    "lock",
    "log_refusals",
    "mask_of",
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
    """Who listens, to which events of which gates."""

    __slots__ = ("blamed", "capture", "gates", "kinds", "listener")

    def __init__(
        self,
        listener: Callable[..., object],
        kinds: tuple[type, ...],
        gates: weakref.WeakSet[Any] | None = None,
        capture: Callable[[], object] | None = None,
    ) -> None:
        """
        Listen to nothing yet; `change` begins that.

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

    def covers(self, gate: Gate) -> bool:
        """Tell whether events of this gate are wanted."""
        if self.gates is None or gate in self.gates:
            return True
        entry = gate.entry  # of a keyed policy: who listens to that listens to all its keys
        return entry is not None and any(stage in self.gates for stage in entry.table.stages)

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
                    _log.listener_failed(self.listener, error)

    def also(self, gate: Gate) -> tuple[Gate, ...]:  # noqa: ARG002 - that of a tap
        """What the listener is told besides."""
        return ()


LOG = Subscription(_log.state_changed, (StateChanged,))
"""Is told of all state changes, before all others."""
_REFUSALS = Subscription(_log.rejected, (Rejected,))

_lock = threading.RLock()
_gates: weakref.WeakSet[Any] = weakref.WeakSet()
current: tuple[Subscription, ...] = ()
"""All there are."""
capturing: tuple[Subscription, ...] = ()
"""Those that want something from where an event comes from."""
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
    change(lambda those: (*those, subscription))
    return lambda: change(lambda those: tuple(one for one in those if one is not subscription))


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


def change(how: Callable[[tuple[Subscription, ...]], tuple[Subscription, ...]]) -> None:
    """Have other subscriptions from now on: those that `how` makes of those there are."""
    global current, capturing
    with _lock:
        current = how(current)
        capturing = tuple(one for one in current if one.capture is not None)
        for gate in list(_gates):
            gate.listening = mask_of(gate)
        for subscription in current:  # keys of keyed policies that are listened to alone
            for gate in subscription.gates or ():
                gate.listening = mask_of(gate)


def mask_of(gate: Gate) -> int:
    """Return for which events a gate must ask us."""
    mask = 0
    for subscription in current:
        if subscription.covers(gate):
            for kind in subscription.kinds:
                mask |= LISTEN[kind]
    return mask


def log_refusals(on: bool) -> None:
    """Log refusals from now on, or no more, whatever the logger is enabled for when later policies are made."""
    global _refusals_logged
    with _lock:
        _refusals_logged = on
        change(lambda those: tuple(one for one in those if one is not _REFUSALS) + (_REFUSALS,) * on)


def attach(gate: Gate) -> None:
    """Let the subscriptions to all policies cover a new gate."""
    if _refusals_logged is None and _log.wants_refusals():
        log_refusals(True)
    with _lock:
        _gates.add(gate)
        gate.listening = mask_of(gate)


def detach(gate: Gate) -> None:
    """Leave a gate to that of a keyed policy, which stands for all its keys."""
    with _lock:
        _gates.discard(gate)


def _after_fork() -> None:
    """A child has no other threads: a lock that one of them held is free."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
