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
    "SharingChanged",
    "StateChanged",
]


@attrs.frozen(kw_only=True)
class _Happened:
    """
    What all events have.

    Attributes:
        kind: The kind of the policy: "circuit_breaker", ...

        name: Its name; None while it has none.

        at_ns: The time, in nanoseconds of resilio's own clock.
    """

    kind: str
    name: str | None
    at_ns: int


@attrs.frozen(kw_only=True)
class _HappenedToKey(_Happened):
    """
    What events of policies have that may belong to a key.

    Attributes:
        key: The key of a keyed policy's policy, or the name of a pool's endpoint; None for any other, and for the one
            that keys share.
    """

    key: Any = None


@attrs.frozen(kw_only=True)
class StateChanged(_HappenedToKey):
    """
    A policy, or an endpoint of a pool, went from one state to another.

    Of an endpoint `kind` is "pool", `name` the pool's, and `key` the endpoint's: "well", "ejected", "drained"; "absent"
    before it is added and after it is removed.

    Attributes:
        old: The state before.

        new: The state after.

        reason: A label from the policy's closed set.
    """

    old: str
    new: str
    reason: str


@attrs.frozen(kw_only=True)
class Rejected(_HappenedToKey):
    """
    A policy rejected a call; the callee was never called.

    Attributes:
        reason: A label from the policy's closed set.

        measured: The measured value, in the unit of `limit`; None if there is nothing to report.

        limit: The limit that it was compared with.

        retry_after: Seconds after which a new call may be admitted; None if unknown.

        scope: Whose the state is that rejected: "process", or "host" or "fleet", whose processes share it.
    """

    reason: str
    measured: float | None
    limit: float | None
    retry_after: float | None
    scope: str = "process"


@attrs.frozen(kw_only=True)
class Settled(_HappenedToKey):
    """
    An admitted call ended.

    Attributes:
        outcome: "success", "failure", "refused" or "ignored".

        seconds: From admission to the end (to the first item of a stream).

        exception: The exception that the call raised; None: it raised none. It is not compared.
    """

    outcome: str
    seconds: float
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Retried(_Happened):
    """
    An attempt failed, and there will be another.

    Attributes:
        attempt: The number of the failed attempt, from 1.

        delay: Seconds until the next one.

        error: The type and text of its exception; None: it returned a failed result.

        exception: The exception itself; None: it returned a failed result. It is not compared.
    """

    attempt: int
    delay: float
    error: str | None
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class GaveUp(_Happened):
    """
    An attempt failed, and there will be no other.

    Attributes:
        attempt: The number of the failed attempt, from 1.

        error: The type and text of its exception; None: it returned a failed result.

        reason: The `stop_reason` of the trail.

        exception: The exception itself; None: it returned a failed result. It is not compared.
    """

    attempt: int
    error: str | None
    reason: str
    exception: BaseException | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class HedgeStarted(_Happened):
    """
    A second copy of a call was started.

    Attributes:
        number: The number of the copy, from 1.
    """

    number: int


@attrs.frozen(kw_only=True)
class HedgeWon(_Happened):
    """
    A copy of a call gave the call its result.

    Attributes:
        number: The number of the copy, from 1.
    """

    number: int


@attrs.frozen(kw_only=True)
class LimitChanged(_HappenedToKey):
    """
    A learned limit has moved by more than a fifth since the last such event.

    Attributes:
        old: The limit in the last such event, or the initial one.

        new: The limit now.
    """

    old: float
    new: float


@attrs.frozen(kw_only=True)
class SharingChanged(_Happened):
    """
    This process shares its policies with others no more, or again; `kind` is "host" or "fleet", `name` is its name.

    It belongs to no policy: listeners of all policies receive it, those of one do not.

    Attributes:
        old: Why it did not share, before; None: it did.

        new: Why it does not share: "no_slot", "no_region", "store_down", ...; None: it does.
    """

    old: str | None
    new: str | None


Event = StateChanged | Rejected | Settled | Retried | GaveUp | HedgeStarted | HedgeWon | LimitChanged | SharingChanged

OUTCOMES = ("success", "failure", "ignored", "refused")
