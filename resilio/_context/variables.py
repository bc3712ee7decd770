"""
What is ambient: the context variables of the library, held where the core and the backends can read them.

`ambient` makes one that a call hands on to all that it calls, and that `detached()` takes away: the deadline is one.

The others are switches that `resilio.testing` sets. The core looks at these two only while somebody has entered one
(`core.bypass_enter`, `core.no_wait_enter` count), so they cost nothing outside tests. They are context variables: one
test's switch does not reach a neighbour's tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilio._native.core import AmbientDeadline, AmbientPriority

__all__ = [
    "AMBIENT",
    "ambient",
    "bypass",
    "deadline",
    "may_stop_loop",
    "no_wait",
    "parking",
    "priority",
    "retry_scope",
    "time_limit",
]

AMBIENT: list[ContextVar[Any]] = []
"""What `detached()` sets to None."""


def ambient(name: str) -> ContextVar[Any]:
    """
    Make a context variable that is None unless set, and that `detached()` sets to None.

    Args:
        name: What it is called, without the library's name.
    """
    variable: ContextVar[Any] = ContextVar(f"resilio.{name}", default=None)
    AMBIENT.append(variable)
    return variable


deadline: ContextVar[AmbientDeadline | None] = ambient("deadline")
"""The deadline as it was set. Read it by `core.ambient_deadline()`, which knows whether it holds here."""

priority: ContextVar[AmbientPriority | None] = ambient("priority")
"""The priority as it was set. Read it by `core.ambient_priority()`, which knows whether it holds here."""

retry_scope: ContextVar[Any] = ambient("retry_scope")
"""The retry that acts here, a `Scope` of `_native.retry`; calls under way in this thread are found without it."""

bypass: ContextVar[bool] = ContextVar("resilio.bypass", default=False)
"""Guarded functions run bare: no gate is asked."""

time_limit: ContextVar[Any] = ambient("time_limit")
"""The `TimeLimit` of the call in this thread, where a timeout or a body has set one."""

no_wait: ContextVar[bool] = ContextVar("resilio.no_wait", default=False)
"""A wait that time alone would end, ends at once; one that needs another call is refused at once."""

may_stop_loop: ContextVar[bool] = ContextVar("resilio.may_stop_loop", default=False)
"""Waits may block a thread in which an event loop runs."""

parking: Callable[[Lock], object] | None = None
"""
How a thread blocks while virtual time is on: `parking(lock)` in place of `lock.acquire()`; None: for real.

It may move the clock, which releases the locks that are due. It also returns, without the lock, when virtual time ends.
"""
