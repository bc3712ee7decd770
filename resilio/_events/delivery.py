"""
Delivery of events to their listeners: after locks are released, in order, one at a time.

The thread that causes an event puts it into one queue, and one thread at a time empties the queue. Only that thread
waits for listeners.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from resilio._events import subscriptions
from resilio._events.records import Event, LimitChanged, StateChanged
from resilio._events.subscriptions import Subscription
from resilio._support.after_fork import in_child

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["dispatch", "postponed", "queue", "queue_changes"]

_lane: dict[str, weakref.ref[_Presence]] = {}
_waiting: deque[tuple[Gate, Any, Any]] = deque()
"""Each item: gate, event and captured values; or gate, list of changes, and a tuple that begins with a converter."""


class _Presence:
    """An object that only its thread references: it dies with the thread."""


class _Here(threading.local):
    """State of one thread: a flag while it delivers, and a weak reference that ends with the thread."""

    def __init__(self) -> None:
        self.busy = False
        self.presence = _Presence()
        self.sign = weakref.ref(self.presence, _leave)


def _leave(sign: weakref.ref[_Presence], lane: dict[str, weakref.ref[_Presence]] = _lane) -> None:
    if lane.get("owner") is sign:  # an argument: at interpreter exit, the module's names are gone before its threads
        lane.pop("owner", None)


_here = _Here()


def queue(gate: Gate, event: Event) -> None:
    """Put an event into the queue; `dispatch` must follow, once no lock is held."""
    _waiting.append((gate, event, _capture(gate, type(event))))


def queue_changes(gate: Gate, records: Callable[[list[Any]], Iterable[Event]]) -> None:
    """
    Put the changes that a gate has recorded into the queue, in their order whatever the thread; `dispatch` must follow.

    Args:
        gate: The gate.

        records: Converts its changes to events, later.
    """
    policy = gate.policy if gate.entry is None else gate.entry.policy  # kept, with its key, until delivery
    gate.pass_changes(_waiting, (records, _capture(gate, StateChanged, LimitChanged), policy))


def _capture(gate: Gate, *kinds: type) -> dict[Subscription, object]:
    if not subscriptions.is_capturing():
        return {}
    return {
        one: one.look()
        for one in subscriptions.covering(gate)
        if one.capture is not None and any(issubclass(kind, one.kinds) for kind in kinds)
    }


def dispatch() -> None:
    """Empty the queue, unless another thread is doing so: it delivers these events too, in order."""
    # The lane is no lock: a Ctrl-C between a lock's acquisition and its `try` would leave it locked forever.
    # Its owner is no Thread: up to 3.12, a Ctrl-C in `is_alive` makes it, and `join`, report a live thread as dead.
    sign = _here.sign
    while _waiting and not _here.busy:
        try:
            _here.busy = True
            if _lane.setdefault("owner", sign) is not sign:  # atomic
                return
            _deliver_waiting()
        finally:
            _here.busy = False
            _leave(sign)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Postpone delivery of this thread's events to the block's end; put around locks, which listeners find free."""
    before = _here.busy
    try:
        _here.busy = True
        yield
    finally:
        _here.busy = before
        dispatch()


def _deliver_waiting() -> None:
    # Not inside that `try`: CPython does not cover the jump at a loop's end by it, and a Ctrl-C may arrive there.
    while _waiting:
        gate, what, captured = _waiting.popleft()
        if type(what) is list:
            records, captured, _ = captured
            _waiting.extendleft(reversed([(gate, event, captured) for event in records(what)]))
        else:
            _tell(gate, what, captured)


def _tell(gate: Gate, event: Event, captured: dict[Subscription, object]) -> None:
    logged = () if type(event) is StateChanged and _is_of_endpoint(gate) else (subscriptions.LOG,)
    for subscription in (*logged, *subscriptions.covering(gate)):
        if isinstance(event, subscription.kinds):
            if subscription.capture is None:
                subscription.tell(event, *subscription.also(gate))
            elif subscription in captured:  # one that subscribed meanwhile has captured nothing
                subscription.tell(event, captured[subscription])


def _is_of_endpoint(gate: Gate) -> bool:
    """Return True for a gate of an endpoint's own policy: the line of its pool is enough."""
    return getattr(gate.policy, "_within", None) is not None and gate.policy.kind != "pool"


def _after_fork() -> None:
    """Forget events that other threads had not delivered: a forked child does not have those threads."""
    _lane.clear()
    _here.busy = False
    _waiting.clear()


in_child("state", _after_fork)
