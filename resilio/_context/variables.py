"""
Context variables of the library, in a place where the core and the backends can read them.

`ambient` makes a variable, like the deadline, that all calls and tasks inside inherit and that `detached()` clears.

`bypass` and `no_wait` are switches that `resilio.testing` sets; `RESILIO_DISABLED` sets `bypass` for a whole process.
The core reads them only while one is entered (`core.bypass_enter`, `core.no_wait_enter` count), so they cost nothing
otherwise. As context variables, they do not reach the tasks of another test.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from resilio._context.process_switch import AT_START

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
"""The variables that `detached()` sets to None."""


def ambient(name: str) -> ContextVar[Any]:
    """
    Make a context variable that is None unless set, and that `detached()` sets to None.

    Args:
        name: Its name, without the library's.
    """
    variable: ContextVar[Any] = ContextVar(f"resilio.{name}", default=None)
    AMBIENT.append(variable)
    return variable


deadline: ContextVar[AmbientDeadline | None] = ambient("deadline")
"""The deadline as it was set. Read it by `core.ambient_deadline()`, which checks if it applies here."""

priority: ContextVar[AmbientPriority | None] = ambient("priority")
"""The priority as it was set. Read it by `core.ambient_priority()`, which checks if it applies here."""

retry_scope: ContextVar[Any] = ambient("retry_scope")
"""The retry in force here, a `Scope` of `_native.retry`; calls in flight in this thread are found without it."""

bypass: ContextVar[bool] = ContextVar("resilio.bypass", default=AT_START)
"""True: guarded functions run bare, without any gate."""

time_limit: ContextVar[Any] = ambient("time_limit")
"""The `TimeLimit` of the call in this thread, if a timeout or a body has set one."""

no_wait: ContextVar[bool] = ContextVar("resilio.no_wait", default=False)
"""True: a wait for time alone ends at once; a wait for another call is rejected at once."""

may_stop_loop: ContextVar[bool] = ContextVar("resilio.may_stop_loop", default=False)
"""True: waits may block a thread in which an event loop runs."""

parking: Callable[[Lock], object] | None = None
"""
Blocks a thread under virtual time: `parking(lock)` in place of `lock.acquire()`; None: time is real.

It may move the clock, which releases the locks that are due. It also returns, without the lock, when virtual time ends.
"""
