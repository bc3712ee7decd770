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

__all__ = ["SharingWarning", "changed", "full", "unnamed", "warn"]

WHAT = {
    "no_slot": "all places for workers are taken",
    "no_locks": "the file system has no record locks",
    "no_thread": "the thread that looks after the memory could not be started",
    "gone": "the file was removed, and could not be made again",
}
"""Reasons that have no text of their own."""

_warned: set[str] = set()


class SharingWarning(RuntimeWarning):
    """Warning that policies with a scope wider than the process are the process's own, because it cannot share."""


class _Group:
    """Stand-in for the gate of an event that belongs to no policy."""

    kind = "host"
    policy = None
    entry = None
    gates = ()

    def __init__(self, host: Any) -> None:
        self.name = host.name


def changed(host: Any, before: str | None, degraded: str | None, why: str) -> None:
    """Log that this process shares no more, or again, and deliver the event."""
    fields = {"policy": "host", "policy_name": host.name, "reason": degraded or "shared", "path": str(host.path)}
    if degraded is None:
        log.say(log.INFO, "%s: policies are shared again", log.describe("host", host.name), fields=fields)
    else:
        text = "%s: policies are the process's own (%s): %s"
        log.say(log.WARNING, text, log.describe("host", host.name), degraded, why or WHAT[degraded], fields=fields)
    event = SharingChanged(kind="host", name=host.name, at_ns=clock.now_ns(), old=before, new=degraded)
    queue(_Group(host), event)  # type: ignore[arg-type]
    dispatch()


def warn(host: Any, degraded: str, why: str) -> None:
    """Warn, once for each group, that policies are not shared from the beginning; at the line that makes the first."""
    if host.name not in _warned:
        _warned.add(host.name)
        text = f"{host!r} is not shared with other processes ({degraded}): {why or WHAT[degraded]}"
        warnings.warn(text, SharingWarning, stacklevel=outside(sys._getframe())[0])


def full(host: Any, policy: Any, error: Exception) -> None:
    """Log that one policy has no room in the region."""
    fields = {"policy": policy.kind, "policy_name": policy.name, "reason": "region_full"}
    text = "%s: not shared, %s has no room: %s; give host(...) a larger size"
    log.say(log.WARNING, text, log.describe(policy.kind, policy.name), host, error, fields=fields)


def unnamed(kind: str) -> None:
    """Log, once, that the environment asks for a scope that a policy without a name cannot have."""
    if "" not in _warned:
        _warned.add("")
        with suppress(Exception):
            where = outside(sys._getframe())[1]
            place = "" if where is None else f" ({where.f_code.co_filename}:{where.f_lineno})"
            text = "RESILIO_SCOPE: policies without a name stay in their process, as this %s%s"
            log.say(log.INFO, text, kind, place, fields={"policy": kind})
