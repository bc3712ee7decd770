"""Reports of a change: one log line, one event, and one warning for a group that cannot share from the beginning."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import Any

from resilio._events import log
from resilio._events.delivery import dispatch, queue
from resilio._events.records import SharingChanged
from resilio._native import clock
from resilio._support.call_site import outside

__all__ = [
    "SharingWarning",
    "changed",
    "engine_failed",
    "fleet_changed",
    "full",
    "key_broken",
    "keys_full",
    "unnamed",
    "warn",
]

WHAT = {
    "no_slot": "all places for workers are taken",
    "no_locks": "the file system has no record locks",
    "no_thread": "the thread that looks after the memory could not be started",
    "gone": "the file was removed, and could not be made again",
    "store_down": "the store gives no answers",
}
"""Reasons that have no text of their own."""

_warned: set[str] = set()


class SharingWarning(RuntimeWarning):
    """Warning that policies with a scope wider than the process are the process's own, because it cannot share."""


class _Group:
    """Stand-in for the gate of an event that belongs to no policy."""

    policy = None
    entry = None
    gates = ()

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name


def changed(host: Any, before: str | None, degraded: str | None, why: str) -> None:
    """Log that this process shares no more, or again, and deliver the event."""
    _changed("host", host.name, before, degraded, why, {"path": str(host.path)})


def fleet_changed(fleet: Any, before: str | None, degraded: str | None, why: str) -> None:
    """
    Log that this process's policies are the fleet's no more, or again, and deliver the event.

    Warn, once for each fleet, that its store is away: it is made at import, often before logging is set up.
    """
    _changed("fleet", fleet.name, before, degraded, why, {})
    if degraded == "store_down":
        with suppress(SharingWarning):  # raised by a filter: the courier's thread, which runs here, has to go on
            _warn(f"fleet {fleet.name}", f"{fleet!r} is not shared with other hosts ({degraded}): {why}")


def key_broken(fleet: Any, problem: str) -> None:
    """Log, once for each kind of error, that the store has none but this for a key, and answers for others."""
    text = "%s: its store has no answer for a key, others of this kind of error are not logged: %s"
    log.say(log.WARNING, text, log.describe("fleet", fleet.name), problem, fields=_fields(fleet, "store_problem"))


def engine_failed(fleet: Any, defect: Exception) -> None:
    """Log, once for each text, a defect of the engine."""
    text = "%s: the engine of a fleet's store failed"
    fields = _fields(fleet, "store_problem")
    log.say(log.ERROR, text, log.describe("fleet", fleet.name), fields=fields, error=defect)


def _fields(fleet: Any, reason: str) -> dict[str, str]:
    return {"policy": "fleet", "policy_name": fleet.name, "reason": reason}


def _changed(kind: str, name: str, before: str | None, degraded: str | None, why: str, more: dict[str, str]) -> None:
    fields = {"policy": kind, "policy_name": name, "reason": degraded or "shared", **more}
    if degraded is None:
        log.say(log.INFO, "%s: policies are shared again", log.describe(kind, name), fields=fields)
    else:
        text = "%s: policies are the process's own (%s): %s"
        log.say(log.WARNING, text, log.describe(kind, name), degraded, why or WHAT[degraded], fields=fields)
    event = SharingChanged(kind=kind, name=name, at_ns=clock.now_ns(), old=before, new=degraded)
    queue(_Group(kind, name), event)  # type: ignore[arg-type]
    dispatch()


def warn(host: Any, degraded: str, why: str) -> None:
    """Warn, once for each group, that policies are not shared from the beginning; at the line that makes the first."""
    _warn(host.name, f"{host!r} is not shared with other processes ({degraded}): {why or WHAT[degraded]}")


def _warn(group: str, text: str) -> None:
    if group not in _warned:
        _warned.add(group)
        warnings.warn(text, SharingWarning, stacklevel=outside(sys._getframe())[0])


def full(host: Any, policy: Any, error: Exception) -> None:
    """Log that one policy has no room in the region."""
    fields = {"policy": policy.kind, "policy_name": policy.name, "reason": "region_full"}
    text = "%s: not shared, %s has no room: %s; give host(...) a larger size"
    log.say(log.WARNING, text, log.describe(policy.kind, policy.name), host, error, fields=fields)


def keys_full(host: Any, keyed: Any, there: int, error: Exception) -> None:
    """Log, once for each region, how many keys are in it, and that those beyond are not shared."""
    fields = {"policy": keyed.kind, "policy_name": keyed.name, "reason": "region_full"}
    text = "%s: %d keys are shared, those beyond are each process's own: %s has no room: %s"
    text += "; give host(...) a larger size"
    log.say(log.WARNING, text, log.describe(keyed.kind, keyed.name), there, host, error, fields=fields)


def unnamed(kind: str) -> None:
    """Log, once, that the environment asks for a scope that a policy without a name cannot have."""
    if "" not in _warned:
        _warned.add("")
        with suppress(Exception):
            where = outside(sys._getframe())[1]
            place = "" if where is None else f" ({where.f_code.co_filename}:{where.f_lineno})"
            text = "RESILIO_SCOPE: policies without a name stay in their process, as this %s%s"
            log.say(log.INFO, text, kind, place, fields={"policy": kind})
