"""
The option `scope`: which callers have one state of a policy together.

A policy is one state for its scope: the process, the host, whose processes share memory, or a fleet, whose hosts share
through a store. `resilio.sharing` makes the wider ones; a policy that is not shared never imports it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

from resilio._options.validators import reject
from resilio._support.show import with_article

__all__ = [
    "HOST",
    "PROCESS",
    "SWITCH",
    "Scope",
    "ScopeName",
    "checked_scope",
    "fleets",
    "group_here",
    "is_private",
    "is_shared",
    "scope_in_code",
    "set_private",
    "wanted",
]

SWITCH = "RESILIO_SCOPE"
"""The environment variable with the scope of policies that name none."""

ScopeName = Literal["process", "host"]
PROCESS: ScopeName = "process"
HOST: ScopeName = "host"
_NAMES = (PROCESS, HOST)
_private: set[str] = set()


class Scope:
    """
    A scope wider than the process, as :func:`resilio.sharing.host` and :func:`resilio.sharing.fleet` return it.

    Attributes:
        spans_hosts: True for that of a fleet.
    """

    __slots__ = ()

    spans_hosts: ClassVar[bool] = False

    def of_part(self, gate: Any) -> ScopeName | Scope:  # noqa: ARG002 - some scopes do not have all gates
        """Return the scope of a part of a stack that has this one, by its gate or the class of that."""
        return self


fleets: dict[str, Scope] = {}
"""The fleets of this process by their names: a configuration file names one."""

group_here: ContextVar[Callable[[], Any] | None] = ContextVar("group_here", default=None)
"""What returns the group of "host" in simulations, whose processes are none; None: that of this process."""


def checked_scope(name: str, value: object, *, none_ok: bool = True) -> ScopeName | Scope | None:  # noqa: ARG001 - a check's signature
    """Return the scope of an option: "process", "host", a scope, a fleet by its name, or None: as `SWITCH` is set."""
    if value is None or isinstance(value, Scope):
        return value
    if isinstance(value, str) and value in fleets and value not in _NAMES:
        return fleets[value]
    if value not in _NAMES:
        error = ValueError if isinstance(value, str) else TypeError
        known = f"here {', '.join(fleets)}" if fleets else "none has been yet"
        right = (
            "'process', 'host', what resilio.sharing.host() or fleet() returns, or the name of a fleet that has been"
        )
        reject(name, value, f"{right} made before ({known})", error)
    return value


def scope_in_code(name: str, value: object, *, none_ok: bool = True) -> ScopeName | Scope:
    """
    Return the scope of an option that `SWITCH` does not decide; None: "process".

    It is for limits that mirror a resource of the process, such as a pool of connections: shared by its workers, the
    limit of one pool would starve all of them but one.
    """
    return checked_scope(name, value, none_ok=none_ok) or PROCESS


def wanted(value: ScopeName | Scope | None) -> ScopeName | Scope:
    """Return the scope in force: that of the option, or of the environment."""
    if value is not None:
        return value
    found = os.environ.get(SWITCH, "").strip().lower() or PROCESS
    if found not in _NAMES:
        reject(f"environment variable {SWITCH}", found, "'process' or 'host'")
    return found


def is_shared(kind: str, name: str | None, config: Any) -> bool:
    """
    Return True if the policy of this record is to be shared; not if only the environment asks and it has no name.

    Raises:
        ValueError: The code asks for it, and the policy has no name.
    """
    if not hasattr(config, "scope") or wanted(config.scope) == PROCESS:
        return False
    if name is None and config.scope is not None:
        raise ValueError(
            f"scope must be 'process' for {with_article(kind)} without a name, not {config.scope!r}: processes find "
            f"each other's policies by name, so give it one, name='...'; in keyed(...), give name and scope to keyed"
        )
    return name is not None


def set_private(why: str, *, on: bool) -> None:
    """
    Let each host be this process alone, for this reason, or no longer for it: in tests, in virtual time.

    Tests must not meet a service that runs on the machine, and times of a virtual clock mean nothing to others.
    """
    if on:
        _private.add(why)
    else:
        _private.discard(why)


def is_private() -> bool:
    """Return True if each host is this process alone."""
    return bool(_private)
