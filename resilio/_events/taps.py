"""Listeners for the library's own use: taps that receive the gate as well, samples of frequent events, watches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from resilio._events import subscriptions
from resilio._events.records import StateChanged
from resilio._events.subscriptions import Subscription, kinds_of

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["Samples", "Tap", "watch"]


class Tap(Subscription):
    """A listener to all policies, later ones included, that also receives the gate; it begins at once."""

    __slots__ = ()

    def __init__(self, listener: Callable[[Any, Gate], object], kinds: Iterable[type]) -> None:
        super().__init__(listener, kinds_of(kinds))
        subscriptions.add(self)

    def end(self) -> None:
        """Listen no more."""
        subscriptions.remove(self)

    def also(self, gate: Gate) -> tuple[Gate, ...]:
        return (gate,)


class Samples(Tap):
    """
    A tap that receives one event of each gate until the next `rearm`.

    So sampling the reasons of rejections costs a policy that rejects a million calls no more than one that rejects one.
    """

    __slots__ = ("_muted",)
    SELECTIVE = True

    def __init__(self, listener: Callable[[Any, Gate], object], kinds: Iterable[type]) -> None:
        self._muted: weakref.WeakSet[Gate] = weakref.WeakSet()  # weak: keys come and go between two rearms
        super().__init__(listener, kinds)

    def covers(self, gate: Gate) -> bool:
        return gate not in self._muted

    def rearm(self) -> None:
        """Receive one more event of each gate."""
        with subscriptions.lock():
            muted, self._muted = self._muted, weakref.WeakSet()
            for gate in muted:
                gate.listening = subscriptions.mask_of(gate)

    def also(self, gate: Gate) -> tuple[Gate, ...]:
        with subscriptions.lock():
            self._muted.add(gate)
            gate.listening = subscriptions.mask_of(gate)
        return super().also(gate)


def watch(gates: Iterable[Any], listener: Callable[[StateChanged], object]) -> Callable[[], None]:
    """Call `listener` for state changes of these gates; return a function that ends it."""
    return subscriptions.add(Subscription(listener, (StateChanged,), weakref.WeakSet(gates)))
