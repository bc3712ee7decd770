"""
Events are frozen records, delivered after all locks are released, in order, one at a time.

A listener that raises changes nothing: its exception is counted in `listener_errors` and logged once per listener.
State changes are always logged, one line each; rejections and ends of calls cost nothing without a listener.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from resilio._events.delivery import dispatch, queue, queue_changes
from resilio._events.records import (
    OUTCOMES,
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
from resilio._events.subscriptions import Subscription, add, errors, kinds_of
from resilio._failures.retry_trail import text_of
from resilio._native import clock

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
    "SharingChanged",
    "StateChanged",
    "listener_errors",
    "subscribe",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def listener_errors() -> int:
    """Return the number of exceptions that listeners have raised, in this process."""
    return errors()


def subscribe(
    listener: Callable[..., object],
    *,
    policy: Any = None,
    kinds: Iterable[type] = (StateChanged,),
    capture: Callable[[], object] | None = None,
) -> Callable[[], None]:
    """
    Call `listener(event)` for every event of `kinds`; return a function that ends it.

    Events are delivered in order and one at a time, in a thread or task that caused one, after locks are released and
    before the call goes on. So a listener must be quick, and must not wait.

    Args:
        listener: Called with the record; its exceptions are counted and logged once.

        policy: The policy (or pipeline: all its policies) to listen to; None for all, later ones included.

        kinds: Some of :class:`StateChanged`, :class:`Rejected`, :class:`Settled`, :class:`Retried`, :class:`GaveUp`,
            :class:`HedgeStarted`, :class:`HedgeWon`, :class:`LimitChanged` and :class:`SharingChanged`. Their cost:
            :class:`Rejected` on every rejection; :class:`Settled` on every call; :class:`Retried` and :class:`GaveUp`
            on every failure in a retry; those of hedges on every copy.

        capture: Called in the thread and task that caused an event, which need not be the one that delivers it. Its
            result is the second argument of `listener`, None if it raised. None: there is no second argument.

    Raises:
        TypeError: `listener` is not callable, `kinds` holds something else, or `policy` is no policy.
    """
    wanted = kinds_of(kinds)
    if not callable(listener):
        raise TypeError(f"listener must be callable, not {listener!r}")
    gates = None if policy is None else weakref.WeakSet(_gates_of(policy))
    return add(Subscription(listener, wanted, gates, capture))


def _gates_of(policy: Any) -> tuple[Any, ...]:
    gates = getattr(policy, "gates", None)
    if not isinstance(gates, tuple):
        raise TypeError(f"policy must be a policy or None, not {policy!r}")
    return gates


# ---- called by the core ----------------------------------------------------------------------------------------------


def deliver(gate: Gate) -> None:
    """Deliver the state changes that `gate` has recorded. The core calls this, with no lock held."""
    queue_changes(gate, partial(_records_of, gate, gate.kind, _name(gate), _key(gate)))
    dispatch()


def _records_of(
    gate: Gate, kind: str, name: str | None, key: Any, changes: list[tuple[int, str, str, str]]
) -> Iterator[Event]:
    policy = gate.policy
    for at_ns, old, new, reason in changes:
        if reason == "moved":
            for before, after in getattr(gate, "drain_moves", list)():
                yield LimitChanged(kind=kind, name=name, old=before, new=after, at_ns=at_ns, key=key)
        else:
            if getattr(policy, "_within", None) is not None:
                reason = policy._reason_of(key, reason)  # noqa: PLW2901 - a pool's own reason is that of its endpoint's policy
            yield StateChanged(kind=kind, name=name, old=old, new=new, reason=reason, at_ns=at_ns, key=key)


def rejected(
    gate: Gate, reason: str, measured: float | None, limit: float | None, retry_after: float | None, scope: str
) -> None:
    """Deliver a rejection. The core calls this if the gate's listening bit is set, with no lock held."""
    numbers = {"measured": measured, "limit": limit, "retry_after": retry_after}
    _send(gate, Rejected, key=_key(gate), reason=reason, **numbers, scope=scope)


def settled(gate: Gate, outcome: int, seconds: float, error: BaseException | None = None) -> None:
    """Deliver the end of a call. The core calls this if the gate's listening bit is set, with no lock held."""
    _send(gate, Settled, key=_key(gate), outcome=OUTCOMES[outcome], seconds=seconds, exception=error)


def retried(gate: Gate, attempt: int, error: BaseException | None, delay: float) -> None:
    """Deliver that another attempt follows. A retry calls this if its listening bit is set, with no lock held."""
    _send(gate, Retried, attempt=attempt, delay=delay, error=text_of(error), exception=error)


def gave_up(gate: Gate, attempt: int, error: BaseException | None, reason: str) -> None:
    """Deliver that a retry gives up. A retry calls this if its listening bit is set, with no lock held."""
    _send(gate, GaveUp, attempt=attempt, error=text_of(error), reason=reason, exception=error)


def hedge_started(gate: Gate, number: int) -> None:
    """Deliver that a copy was started. A hedge calls this if its listening bit is set, with no lock held."""
    _send(gate, HedgeStarted, number=number)


def hedge_won(gate: Gate, number: int) -> None:
    """Deliver that a copy has won. A hedge calls this if its listening bit is set, with no lock held."""
    _send(gate, HedgeWon, number=number)


def _send(gate: Gate, record: Callable[..., Event], **fields: Any) -> None:
    queue(gate, record(kind=gate.kind, name=_name(gate), at_ns=clock.now_ns(), **fields))
    dispatch()


def _name(gate: Gate) -> str | None:
    return getattr(gate.policy, "name", None)


def _key(gate: Gate) -> Any:
    """Return the key of a keyed policy's gate, of a pool's seat the name of its endpoint; else None."""
    entry = gate.entry
    return getattr(gate, "key", None) if entry is None else entry.key
