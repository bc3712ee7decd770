"""
Recent history of policies: the last 200 changes of state, limit and sharing, and each policy's last rejection.

It listens from the moment the page is made, so that a viewer also sees events from before it connected.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from hashlib import blake2s
from typing import TYPE_CHECKING, Any

from resilio import events
from resilio._events.taps import Samples, Tap
from resilio._options.validators import show
from resilio.metrics._fork import after_fork

if TYPE_CHECKING:
    from resilio._native.core import Gate
    from resilio._policy.base import Policy

__all__ = ["KEPT", "Journal", "Past", "owner_of"]

KEPT = 200
"""Number of events kept; the oldest is dropped first."""


class Past:
    """History of one policy."""

    __slots__ = ("opened", "since", "why")

    def __init__(self) -> None:
        """Start without history."""
        self.since: float | None = None  # seconds since the epoch at the last change of state
        self.opened: int = 0
        self.why: dict[str, Any] | None = None


class Journal:
    """
    Listener to all policies: to every change, which are rare, and to one rejection of each policy per reading.

    Args:
        show_keys: Whether keys of keyed policies are shown in full; otherwise each is a short tag.

        secret: Key of the hash that makes tags, so that a viewer cannot find a policy's key by hashing guesses.
    """

    def __init__(self, *, show_keys: bool, secret: bytes) -> None:
        self._show_keys = show_keys
        self._secret = secret
        self._ids = itertools.count(1)
        self._past: weakref.WeakKeyDictionary[Policy[Any], Past] = weakref.WeakKeyDictionary()
        self._recent: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.forked()
        after_fork(self)
        me: weakref.ref[Journal] = weakref.ref(self)
        self._rejections = Samples(_weakly(me, Journal._rejected), (events.Rejected,))
        weakref.finalize(self, self._rejections.end)
        tap = Tap(_weakly(me, Journal._changed), (events.StateChanged, events.LimitChanged, events.SharingChanged))
        weakref.finalize(self, tap.end)

    def forked(self) -> None:
        """Create a free lock: at the start, and in a forked child, where a thread of the parent may have held it."""
        self._lock = threading.RLock()  # reentrant: a finaliser that runs inside may record an event

    def past_of(self, policy: Policy[Any]) -> Past:
        """Return the history of a policy."""
        past = self._past.get(policy)
        if past is None:
            past = self._past.setdefault(policy, Past())
        return past

    def add(self, what: str, policy: Any, **fields: Any) -> None:
        """Record an event."""
        now = time.time()  # wall clock: people read it
        event = {"at": round(now, 3), "what": what, "kind": policy.kind, "name": policy.name, **fields}
        with self._lock:  # in the order of their ids
            self._recent.append({"id": next(self._ids), **event})

    def since(self, ident: int) -> list[dict[str, Any]]:
        """Return the events with an id above `ident`, oldest first."""
        with self._lock:
            return [event for event in self._recent if event["id"] > ident]

    def look(self) -> None:
        """Request one more rejection of each policy; rejections beyond the requested one cost nothing."""
        self._rejections.rearm()

    def tag(self, key: Any) -> str:
        """Return the text shown for a key: the key, or a tag that reveals only which keys are equal."""
        text = show(key)
        return text if self._show_keys else "#" + blake2s(text.encode(), key=self._secret, digest_size=3).hexdigest()

    def _changed(self, event: events.StateChanged | events.LimitChanged | events.SharingChanged, gate: Any) -> None:
        if isinstance(event, events.SharingChanged):
            old, new = ("shared" if why is None else "alone" for why in (event.old, event.new))
            self.add("sharing", gate, old=old, new=new, reason=event.new or event.old)
            return
        policy = owner_of(gate)
        if policy is None:
            return
        if policy.kind == "pool":
            self._endpoint_changed(event, policy)
            return
        key = {} if event.key is None else {"key": self.tag(event.key)}
        if isinstance(event, events.LimitChanged):
            self.add("limit", policy, old=round(event.old, 1), new=round(event.new, 1), **key)
            return
        past = self.past_of(policy)
        past.since = round(time.time(), 3)  # wall clock: people read it
        past.opened += event.new == "open"
        self.add("state", policy, old=event.old, new=event.new, reason=event.reason, **key)

    def _endpoint_changed(self, event: Any, pool: Any) -> None:
        if event.kind != "pool":  # of an endpoint's own policy, which is not shown
            return
        endpoint = next((one for one in pool._rows() if one.name == event.key), None)
        if endpoint is not None:
            past = self.past_of(endpoint)
            past.since = round(time.time(), 3)  # wall clock: people read it
            past.opened += event.new == "ejected"
        old, new = ("drained_by_hand" if state == "drained" else state for state in (event.old, event.new))
        self.add("state", pool, old=old, new=new, reason=event.reason, key=event.key)

    def _rejected(self, event: events.Rejected, gate: Gate) -> None:
        policy = owner_of(gate)
        if policy is None:
            return
        self.past_of(policy).why = {
            "at": round(time.time(), 3),  # wall clock: people read it
            "reason": event.reason,
            "measured": _short(event.measured),
            "limit": _short(event.limit),
            "retry_after": _short(event.retry_after),
            "scope": event.scope,
        } | ({} if event.key is None else {"key": self.tag(event.key)})


def owner_of(gate: Any) -> Policy[Any] | None:
    """Return the policy under which a gate is shown: its own, or the keyed policy or the pool that it belongs to."""
    entry = gate.entry
    policy: Policy[Any] | None = gate.policy if entry is None else entry.table.stages[0].policy
    return policy if policy is None or policy._within is None else policy._within()


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _weakly(me: weakref.ref[Journal], method: Callable[[Journal, Any, Gate], None]) -> Callable[[Any, Gate], None]:
    """Return a listener that does not keep the journal alive."""

    def listener(event: Any, gate: Gate) -> None:
        journal = me()
        if journal is not None:
            method(journal, event, gate)

    return listener
