"""What listeners are told: frozen records, one class for each kind of event."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = [
    "OUTCOMES",
    "Event",
    "GaveUp",
    "HedgeStarted",
    "HedgeWon",
    "LimitChanged",
    "Rejected",
    "Retried",
    "Settled",
    "StateChanged",
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

OUTCOMES = ("success", "failure", "ignored")
