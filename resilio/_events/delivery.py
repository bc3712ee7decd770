"""
How events reach their listeners: after locks are released, in order, one at a time.

Whoever causes an event puts it into one queue, and one thread at a time empties that: nobody waits for a listener but
the one that delivers to it.
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
"""Of each event its gate, and what was captured with it; or a gate's changes, and what makes events of them too."""


class _Presence:
    """Something that a thread alone holds: it goes when the thread goes."""


class _Here(threading.local):
    """What is known of a thread: whether it delivers, and the sign that it is there."""

    def __init__(self) -> None:
        self.busy = False
        self.presence = _Presence()
        self.sign = weakref.ref(self.presence, _leave)


def _leave(sign: weakref.ref[_Presence], lane: dict[str, weakref.ref[_Presence]] = _lane) -> None:
    if lane.get("owner") is sign:  # an argument: as the interpreter ends, the module's names go before its threads do
        lane.pop("owner", None)


_here = _Here()


def queue(gate: Gate, event: Event) -> None:
    """Put an event into the queue; `dispatch` must follow, once no lock is held."""
    _waiting.append((gate, event, _capture(gate, type(event))))


def queue_changes(gate: Gate, records: Callable[[list[Any]], Iterable[Event]]) -> None:
    """
    Put what a gate has recorded into the queue, in its order whichever threads do so; `dispatch` must follow.

    Args:
        gate: The gate.

        records: Makes events of its changes, later.
    """
    policy = gate.policy if gate.entry is None else gate.entry.policy  # kept, with its key, until it is delivered
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
    """Empty the queue, unless someone is at it: they deliver ours too, in order, and nobody waits for a listener."""
    # The lane is no lock: a Ctrl-C just after a lock was taken and before its `try` would leave it taken for good.
    # Who is in it is no Thread: up to 3.12 a Ctrl-C in `is_alive` has a thread that lives called dead, by `join` too.
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
    """Deliver what this thread causes in the block after its end: put around locks, which listeners find free."""
    before = _here.busy
    try:
        _here.busy = True
        yield
    finally:
        _here.busy = before
        dispatch()


def _deliver_waiting() -> None:
    # Not inside that `try`: CPython leaves the jump at a loop's end out of it, and a Ctrl-C may come just there.
    while _waiting:
        gate, what, captured = _waiting.popleft()
        if type(what) is list:
            records, captured, _ = captured
            _waiting.extendleft(reversed([(gate, event, captured) for event in records(what)]))
        else:
            _tell(gate, what, captured)


def _tell(gate: Gate, event: Event, captured: dict[Subscription, object]) -> None:
    for subscription in (subscriptions.LOG, *subscriptions.covering(gate)):
        if isinstance(event, subscription.kinds):
            if subscription.capture is None:
                subscription.tell(event, *subscription.also(gate))
            elif subscription in captured:  # one that subscribed meanwhile has captured nothing
                subscription.tell(event, captured[subscription])


def _after_fork() -> None:
    """A child has no other threads: what one of them had not delivered is forgotten."""
    _lane.clear()
    _here.busy = False
    _waiting.clear()


in_child("state", _after_fork)
