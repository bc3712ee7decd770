"""Events that listeners receive: frozen records, one class for each kind."""

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
        kind: The kind of the policy: "circuit_breaker", ...

        name: Its name; None while it has none.

        old: The state before.

        new: The state after.

        reason: A label from the policy's closed set.

        at_ns: The time, in nanoseconds of resilio's own clock.

        key: The key of a keyed policy's policy; None for any other, and for the one that keys share.
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
    A policy rejected a call; the callee was never called.

    Attributes:
        kind: The kind of the policy.

        name: Its name; None while it has none.

        reason: A label from the policy's closed set.

        measured: The measured value, in the unit of `limit`; None if there is nothing to report.

        limit: The limit that it was compared with.

        retry_after: Seconds after which a new call may be admitted; None if unknown.

        at_ns: The time, in nanoseconds of resilio's own clock.

        key: The key of a keyed policy's policy; None for any other.
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
        kind: The kind of the policy.

        name: Its name; None while it has none.

        outcome: "success", "failure" or "ignored".

        seconds: From admission to the end (to the first item of a stream).

        at_ns: The time, in nanoseconds of resilio's own clock.

        key: The key of a keyed policy's policy; None for any other.

        exception: The exception that the call raised; None: it raised none. It is not compared.
    """

    kind: str
    name: str | None
    outcome: str
    seconds: float
    at_ns: int
    key: Any = None
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Retried:
    """
    An attempt failed, and there will be another.

    Attributes:
        kind: The kind of the policy.

        name: Its name; None while it has none.

        attempt: The number of the failed attempt, from 1.

        delay: Seconds until the next one.

        error: The type and text of its exception; None: it returned a failed result.

        at_ns: The time, in nanoseconds of resilio's own clock.

        exception: The exception itself; None: it returned a failed result. It is not compared.
    """

    kind: str
    name: str | None
    attempt: int
    delay: float
    error: str | None
    at_ns: int
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class GaveUp:
    """
    An attempt failed, and there will be no other.

    Attributes:
        kind: The kind of the policy.

        name: Its name; None while it has none.

        attempt: The number of the failed attempt, from 1.

        error: The type and text of its exception; None: it returned a failed result.

        reason: The `stop_reason` of the trail.

        at_ns: The time, in nanoseconds of resilio's own clock.

        exception: The exception itself; None: it returned a failed result. It is not compared.
    """

    kind: str
    name: str | None
    attempt: int
    error: str | None
    reason: str
    at_ns: int
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class HedgeStarted:
    """
    A second copy of a call was started.

    Attributes:
        kind: The kind of the policy: "hedge".

        name: Its name; None while it has none.

        number: The number of the copy, from 1.

        at_ns: The time, in nanoseconds of resilio's own clock.
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
        kind: The kind of the policy: "hedge".

        name: Its name; None while it has none.

        number: The number of the copy, from 1.

        at_ns: The time, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    number: int
    at_ns: int


@attrs.frozen(kw_only=True)
class LimitChanged:
    """
    A learned limit has moved by more than a fifth since the last such event.

    Attributes:
        kind: The kind of the policy: "adaptive_limit", ...

        name: Its name; None while it has none.

        old: The limit in the last such event, or the initial one.

        new: The limit now.

        at_ns: The time, in nanoseconds of resilio's own clock.

        key: The key of a keyed policy's policy; None for any other.
    """

    kind: str
    name: str | None
    old: float
    new: float
    at_ns: int
    key: Any = None


Event = StateChanged | Rejected | Settled | Retried | GaveUp | HedgeStarted | HedgeWon | LimitChanged

OUTCOMES = ("success", "failure", "ignored")
