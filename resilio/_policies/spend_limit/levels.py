"""States of a spend limit, and the conditions that pools ask."""

from __future__ import annotations

import weakref
from typing import Any, Literal, Protocol

from resilio._events.delivery import dispatch, queue
from resilio._events.records import StateChanged
from resilio._native import clock, core
from resilio._options.validators import number, reject
from resilio._policies.spend_limit.snapshot import Spend

__all__ = ["Below", "Levels", "Spends", "State"]

State = Literal["normal", "low", "spent"]


class Levels:
    """
    The state of a spend limit by the money spent: "low" from the soft limit on, "spent" once nothing is left.

    What calls under way have reserved is not spent: most of it comes back.

    Attributes:
        soft: The share of the limit at which it is low; None: it never is.

        state: The state.

        conditions: What others wait for.
    """

    __slots__ = ("_gate", "_number", "conditions", "soft", "state")

    def __init__(self, gate: Any, soft: float | None) -> None:
        """Begin as normal."""
        self._gate = gate
        self._number = 0
        self.conditions: weakref.WeakSet[Below] = weakref.WeakSet()
        self.soft = soft
        self.state: State = "normal"

    def restart(self) -> None:
        """Take the next state for that of another period."""
        self._number = -1

    def look(self, number: int, spent: int, used: int, limit: int) -> None:
        """
        Take the state; a change is reported once no lock is held.

        Args:
            number: The period's.

            spent: The money spent of it, without the reservations of this process.

            used: The same with them, by which conditions go: it is what new calls do not have.

            limit: Its amount.
        """
        soft = self.soft
        now: State = "spent" if spent >= limit else "low" if soft is not None and spent >= soft * limit else "normal"
        before, self.state = self.state, now
        is_new, self._number = number != self._number, number
        if now != before:
            core.defer(_report, (self._gate, before, now, is_new, clock.now_ns()))
        for condition in tuple(self.conditions):
            condition.look((limit - used) / limit)


def _report(change: tuple[Any, State, State, bool, int]) -> None:
    gate, old, new, is_new, at_ns = change
    policy = gate.policy
    if policy is None:  # dropped meanwhile
        return
    reason = {"spent": "spend", "low": "soft"}.get(new, "reset" if is_new else "recovered")
    about = {"kind": policy.kind, "name": policy.name, "key": getattr(gate.entry, "key", None)}
    queue(gate, StateChanged(**about, old=old, new=new, reason=reason, at_ns=at_ns))
    dispatch()


class Spends(Protocol):
    """A spend limit."""

    _levels: Levels

    @property
    def config(self) -> Any:
        """The options."""
        ...

    def spend_now(self) -> Spend:
        """Return the money now."""
        ...


class Below:
    """
    A condition with hysteresis: true once less than a share of a limit is left, until more than another one is.

    It is called for its value; its followers are called when that changes.
    """

    def __init__(self, limit: Spends, share: float, until: float | None) -> None:
        """Begin with the rest of the limit."""
        self._share = number("share", share, low=0.0, high=1.0, open_low=True)
        self._until = self._share if until is None else number("until", until, low=0.0, high=1.0)
        if self._until < self._share:
            reject("until", until, f"at least share={share:g}")
        self._limit = limit
        self._now = False
        self._followers: weakref.WeakSet[Any] = weakref.WeakSet()
        limit._levels.conditions.add(self)

    def __call__(self) -> bool:
        """Return True if less is left, or less was left and `until` is not reached."""
        spend = self._limit.spend_now()
        self.look((spend.limit - spend.used) / spend.limit)
        return self._now

    def price_of(self, model: str | None) -> Any:
        """Return the limit's price of a model; None: it has none."""
        prices = self._limit.config.prices
        return None if prices is None else prices.get(model)

    def follow(self, follower: Any) -> None:
        """Call `follower.follows()`, once no lock is held, when the value has changed; it is kept weakly."""
        self._followers.add(follower)

    def look(self, left: float) -> None:
        """Take the value for this share that is left."""
        now = left < (self._until if self._now else self._share)
        changed, self._now = now != self._now, now
        if changed:
            core.defer(_tell, tuple(self._followers))

    def __repr__(self) -> str:
        return f"<Below {self._share:g} of {self._limit!r}, until {self._until:g}>"


def _tell(followers: tuple[Any, ...]) -> None:
    for follower in followers:
        follower.follows()
