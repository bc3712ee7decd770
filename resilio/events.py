"""
Events are frozen records, delivered after all locks are released, in order, one at a time.

A listener that raises changes nothing: its exception is counted in `listener_errors` and logged once per listener.
State changes are always logged, one line each; refusals and ends of calls cost nothing unless somebody listens.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from resilio import _log
from resilio._native import clock
from resilio._trail import text_of

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = [
    "Event",
    "GaveUp",
    "HedgeStarted",
    "HedgeWon",
    "LimitChanged",
    "Rejected",
    "Retried",
    "Settled",
    "StateChanged",
    "listener_errors",
    "subscribe",
]


@attrs.frozen(kw_only=True)
class StateChanged:
    """
    A policy went from one state to another.

    Attributes:
        kind: What the policy is: "circuit_breaker", ...

        name: Its name; None while it has none.

        old: The state before.

        new: The state after.

        reason: Why, from the policy's closed set of labels.

        at_ns: When, in nanoseconds of resilio's own clock.

        key: Of a keyed policy, whose policy it is; None for any other, and for the one that keys share.
    """

    kind: str
    name: str | None
    old: str
    new: str
    reason: str
    at_ns: int
    key: Any = None


@attrs.frozen(kw_only=True)
class Rejected:
    """
    A policy refused a call; the callee was never called.

    Attributes:
        kind: What the policy is.

        name: Its name; None while it has none.

        reason: Why, from the policy's closed set of labels.

        measured: What was measured, in the unit of `limit`; None if there is nothing to report.

        limit: What it was measured against.

        retry_after: Seconds after which a new call has a chance; None if unknown.

        at_ns: When, in nanoseconds of resilio's own clock.

        key: Of a keyed policy, whose policy it is.
    """

    kind: str
    name: str | None
    reason: str
    measured: float | None
    limit: float | None
    retry_after: float | None
    at_ns: int
    key: Any = None


@attrs.frozen(kw_only=True)
class Settled:
    """
    An admitted call ended.

    Attributes:
        kind: What the policy is.

        name: Its name; None while it has none.

        outcome: "success", "failure" or "ignored".

        seconds: From admission to the end (to the first item of a stream).

        at_ns: When, in nanoseconds of resilio's own clock.

        key: Of a keyed policy, whose policy it is.
    """

    kind: str
    name: str | None
    outcome: str
    seconds: float
    at_ns: int
    key: Any = None


@attrs.frozen(kw_only=True)
class Retried:
    """
    An attempt failed, and there will be another.

    Attributes:
        kind: What the policy is.

        name: Its name; None while it has none.

        attempt: Which attempt failed, from 1.

        delay: Seconds until the next one.

        error: The type and text of what it raised; None: it returned a failed result.

        at_ns: When, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    attempt: int
    delay: float
    error: str | None
    at_ns: int


@attrs.frozen(kw_only=True)
class GaveUp:
    """
    An attempt failed, and there will be no other.

    Attributes:
        kind: What the policy is.

        name: Its name; None while it has none.

        attempt: Which attempt failed, from 1.

        error: The type and text of what it raised; None: it returned a failed result.

        reason: Why: the `stop_reason` of the trail.

        at_ns: When, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    attempt: int
    error: str | None
    reason: str
    at_ns: int


@attrs.frozen(kw_only=True)
class HedgeStarted:
    """
    A second copy of a call was started.

    Attributes:
        kind: What the policy is: "hedge".

        name: Its name; None while it has none.

        number: Which copy of the call it is, from 1.

        at_ns: When, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    number: int
    at_ns: int


@attrs.frozen(kw_only=True)
class HedgeWon:
    """
    A copy of a call gave the call its result.

    Attributes:
        kind: What the policy is: "hedge".

        name: Its name; None while it has none.

        number: Which copy of the call it was, from 1.

        at_ns: When, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    number: int
    at_ns: int


@attrs.frozen(kw_only=True)
class LimitChanged:
    """
    What a policy has learned moved its limit by more than a fifth since the last such event.

    Attributes:
        kind: What the policy is: "adaptive_limit", ...

        name: Its name; None while it has none.

        old: The limit that the last event told, or the one that it began with.

        new: The limit now.

        at_ns: When, in nanoseconds of resilio's own clock.

        key: Of a keyed policy, whose policy it is.
    """

    kind: str
    name: str | None
    old: float
    new: float
    at_ns: int
    key: Any = None


Event = StateChanged | Rejected | Settled | Retried | GaveUp | HedgeStarted | HedgeWon | LimitChanged

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


OUTCOMES = ("success", "failure", "ignored")


class _Subscription:
    __slots__ = ("blamed", "capture", "gates", "kinds", "listener")

    def __init__(
        self,
        listener: Callable[..., object],
        kinds: tuple[type, ...],
        gates: weakref.WeakSet[Any] | None = None,
        capture: Callable[[], object] | None = None,
    ) -> None:
        self.listener = listener
        self.kinds = kinds
        self.gates = gates
        self.capture = capture
        self.blamed = False

    def covers(self, gate: Gate) -> bool:
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


class Tap(_Subscription):
    """Listens to all policies, those made later included, and is told the gate as well; begins at once."""

    __slots__ = ()

    def __init__(self, listener: Callable[[Any, Gate], object], kinds: Iterable[type]) -> None:
        super().__init__(listener, _kinds(kinds))
        _change(lambda current: (*current, self))

    def end(self) -> None:
        """Listen no more."""
        _change(lambda current: tuple(one for one in current if one is not self))

    def also(self, gate: Gate) -> tuple[Gate, ...]:
        return (gate,)


class Samples(Tap):
    """
    A tap that is told of one event of each gate until the next `rearm`.

    So whoever asks why calls are refused costs a policy that refuses a million of them no more than one that refuses
    one.
    """

    __slots__ = ("_muted",)

    def __init__(self, listener: Callable[[Any, Gate], object], kinds: Iterable[type]) -> None:
        self._muted: weakref.WeakSet[Gate] = weakref.WeakSet()  # nobody may ask for long, and keys come and go
        super().__init__(listener, kinds)

    def covers(self, gate: Gate) -> bool:
        return gate not in self._muted

    def rearm(self) -> None:
        """Be told of one event more of each gate."""
        with _lock:
            muted, self._muted = self._muted, weakref.WeakSet()
            for gate in muted:
                gate.listening = _mask(gate)

    def also(self, gate: Gate) -> tuple[Gate, ...]:
        with _lock:
            self._muted.add(gate)
            gate.listening = _mask(gate)
        return super().also(gate)


_LOG = _Subscription(_log.state_changed, (StateChanged,))
_REFUSALS = _Subscription(_log.rejected, (Rejected,))

_lock = threading.RLock()
_lane: dict[str, threading.Thread] = {}
_here = threading.local()
_subscriptions: tuple[_Subscription, ...] = ()
_capturing: tuple[_Subscription, ...] = ()
_gates: weakref.WeakSet[Any] = weakref.WeakSet()
_waiting: deque[tuple[Gate, Event, dict[_Subscription, object]]] = deque()
_errors = 0
_refusals_logged: bool | None = None


def listener_errors() -> int:
    """Return how often a listener has raised, in this process."""
    return _errors


def subscribe(
    listener: Callable[..., object],
    *,
    policy: Any = None,
    kinds: Iterable[type] = (StateChanged,),
    capture: Callable[[], object] | None = None,
) -> Callable[[], None]:
    """
    Have `listener(event)` called for every event of `kinds`; return a function that ends that.

    Events are delivered in order and one at a time, in whichever thread or task caused one, after locks are released
    and before the call goes on: a listener must be quick, and must not wait.

    Args:
        listener: Called with the record; what it raises is counted and logged once.

        policy: The policy (or pipeline: all its policies) to listen to; None for all, those made later included.

        kinds: Of :class:`StateChanged`, :class:`Rejected`, :class:`Settled`, :class:`Retried`, :class:`GaveUp`,
            :class:`HedgeStarted`, :class:`HedgeWon` and :class:`LimitChanged`. :class:`Rejected` and :class:`Settled`
            put work on the path of every refusal and every call, the next two on that of failures that a retry sees,
            those of hedges on that of copies.

        capture: Called in the thread and task that an event comes from, which need not be the one that delivers it.
            What it returns is given to `listener` as its second argument, None if it raised. None: there is no second.

    Raises:
        TypeError: `listener` is not callable, `kinds` holds something else, or `policy` is none.
    """
    wanted = _kinds(kinds)
    if not callable(listener):
        raise TypeError(f"listener must be callable, not {listener!r}")
    gates = None if policy is None else weakref.WeakSet(_gates_of(policy))
    return _add(_Subscription(listener, wanted, gates, capture))


def watch(gates: Iterable[Any], listener: Callable[[StateChanged], object]) -> Callable[[], None]:
    """Have `listener` called for state changes of these gates; return a function that ends that."""
    return _add(_Subscription(listener, (StateChanged,), weakref.WeakSet(gates)))


def _add(subscription: _Subscription) -> Callable[[], None]:
    _change(lambda current: (*current, subscription))
    return lambda: _change(lambda current: tuple(one for one in current if one is not subscription))


def _kinds(kinds: Iterable[type]) -> tuple[type, ...]:
    wanted = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    if not wanted or not all(kind in LISTEN for kind in wanted):
        names = ", ".join(kind.__name__ for kind in LISTEN)
        raise TypeError(f"kinds must be some of {names}, not {kinds!r}")
    return wanted


def _gates_of(policy: Any) -> tuple[Any, ...]:
    gates = getattr(policy, "gates", None)
    if not isinstance(gates, tuple):
        raise TypeError(f"policy must be a policy or None, not {policy!r}")
    return gates


def _change(change: Callable[[tuple[_Subscription, ...]], tuple[_Subscription, ...]]) -> None:
    global _subscriptions, _capturing
    with _lock:
        _subscriptions = change(_subscriptions)
        _capturing = tuple(one for one in _subscriptions if one.capture is not None)
        for gate in list(_gates):
            gate.listening = _mask(gate)
        for subscription in _subscriptions:  # keys of keyed policies that are listened to alone
            for gate in subscription.gates or ():
                gate.listening = _mask(gate)


def _mask(gate: Gate) -> int:
    mask = 0
    for subscription in _subscriptions:
        if subscription.covers(gate):
            for kind in subscription.kinds:
                mask |= LISTEN[kind]
    return mask


def log_refusals(on: bool) -> None:
    """Log refusals from now on, or no more, whatever the logger is enabled for when later policies are made."""
    global _refusals_logged
    with _lock:
        _refusals_logged = on
        _change(lambda current: tuple(one for one in current if one is not _REFUSALS) + (_REFUSALS,) * on)


def attach(gate: Gate) -> None:
    """Let the subscriptions to all policies cover a new gate."""
    if _refusals_logged is None and _log.wants_refusals():
        log_refusals(True)
    with _lock:
        _gates.add(gate)
        gate.listening = _mask(gate)


def detach(gate: Gate) -> None:
    """Leave a gate to that of a keyed policy, which stands for all its keys."""
    with _lock:
        _gates.discard(gate)


def deliver(gate: Gate) -> None:
    """Deliver the state changes that `gate` has recorded. The core calls this, with no lock held."""
    kind, name, key = gate.kind, _name(gate), _key(gate)
    for at_ns, old, new, reason in gate.drain_changes():
        if reason == "moved":
            for before, after in getattr(gate, "drain_moves", list)():
                _queue(gate, LimitChanged(kind=kind, name=name, old=before, new=after, at_ns=at_ns, key=key))
            continue
        _queue(gate, StateChanged(kind=kind, name=name, old=old, new=new, reason=reason, at_ns=at_ns, key=key))
    _dispatch()


def rejected(gate: Gate, reason: str, measured: float | None, limit: float | None, retry_after: float | None) -> None:
    """Deliver a refusal. The core calls this if the gate's listening bit is set, with no lock held."""
    event = Rejected(
        kind=gate.kind,
        name=_name(gate),
        reason=reason,
        measured=measured,
        limit=limit,
        retry_after=retry_after,
        at_ns=clock.now_ns(),
        key=_key(gate),
    )
    _queue(gate, event)
    _dispatch()


def settled(gate: Gate, outcome: int, seconds: float) -> None:
    """Deliver the end of a call. The core calls this if the gate's listening bit is set, with no lock held."""
    event = Settled(
        kind=gate.kind,
        name=_name(gate),
        outcome=OUTCOMES[outcome],
        seconds=seconds,
        at_ns=clock.now_ns(),
        key=_key(gate),
    )
    _queue(gate, event)
    _dispatch()


def retried(gate: Gate, attempt: int, error: BaseException | None, delay: float) -> None:
    """Deliver that a retry tries again. It calls this if the gate's listening bit is set, with no lock held."""
    now_ns, text = clock.now_ns(), text_of(error)
    event = Retried(kind=gate.kind, name=_name(gate), attempt=attempt, delay=delay, error=text, at_ns=now_ns)
    _queue(gate, event)
    _dispatch()


def gave_up(gate: Gate, attempt: int, error: BaseException | None, reason: str) -> None:
    """Deliver that a retry does not. It calls this if the gate's listening bit is set, with no lock held."""
    now_ns, text = clock.now_ns(), text_of(error)
    event = GaveUp(kind=gate.kind, name=_name(gate), attempt=attempt, error=text, reason=reason, at_ns=now_ns)
    _queue(gate, event)
    _dispatch()


def hedge_started(gate: Gate, number: int) -> None:
    """Deliver that a copy was started. A hedge calls this if its listening bit is set, with no lock held."""
    _queue(gate, HedgeStarted(kind=gate.kind, name=_name(gate), number=number, at_ns=clock.now_ns()))
    _dispatch()


def hedge_won(gate: Gate, number: int) -> None:
    """Deliver that a copy has won. A hedge calls this if its listening bit is set, with no lock held."""
    _queue(gate, HedgeWon(kind=gate.kind, name=_name(gate), number=number, at_ns=clock.now_ns()))
    _dispatch()


def _name(gate: Gate) -> str | None:
    return getattr(gate.policy, "name", None)


def _key(gate: Gate) -> Any:
    entry = gate.entry
    return None if entry is None else entry.key


def _queue(gate: Gate, event: Event) -> None:
    captured = {one: one.look() for one in _capturing if isinstance(event, one.kinds) and one.covers(gate)}
    _waiting.append((gate, event, captured))


def _dispatch() -> None:
    """Empty the queue, unless someone is at it: they deliver ours too, in order, and nobody waits for a listener."""
    # The lane is no lock: a Ctrl-C just after a lock was taken and before its `try` would leave it taken for good.
    me = threading.current_thread()
    while _waiting and not getattr(_here, "delivering", False):
        try:
            _here.delivering = True
            if not _take_lane(me):
                return
            _deliver_waiting()
        finally:
            _here.delivering = False
            if _lane.get("owner") is me:
                _lane.pop("owner", None)


def _deliver_waiting() -> None:
    # Not inside that `try`: CPython leaves the jump at a loop's end out of it, and a Ctrl-C may come just there.
    while _waiting:
        _tell(*_waiting.popleft())


def _take_lane(me: threading.Thread) -> bool:
    owner = _lane.setdefault("owner", me)  # atomic
    if owner is not me and not owner.is_alive():
        _lane["owner"] = owner = me
    return owner is me


def _tell(gate: Gate, event: Event, captured: dict[_Subscription, object]) -> None:
    for subscription in (_LOG, *_subscriptions):
        if isinstance(event, subscription.kinds) and subscription.covers(gate):
            if subscription.capture is None:
                subscription.tell(event, *subscription.also(gate))
            elif subscription in captured:  # one that subscribed meanwhile has captured nothing
                subscription.tell(event, captured[subscription])


def _after_fork() -> None:
    """A child has no other threads: a lock that one of them held, and what it had not delivered, are forgotten."""
    global _lock
    _lock = threading.RLock()
    _lane.clear()
    _here.delivering = False
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
