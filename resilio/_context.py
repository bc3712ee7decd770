"""
The ambient switches that `resilio.testing` sets, held where the core and the backends can read them.

The core looks at the two context variables only while somebody has entered one (`core.bypass_enter`,
`core.no_wait_enter` count), so they cost nothing outside tests. They are context variables: one test's switch does not
reach a neighbour's tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock

__all__ = ["bypass", "no_wait", "parking"]

bypass: ContextVar[bool] = ContextVar("resilio.bypass", default=False)
"""Guarded functions run bare: no gate is asked."""

no_wait: ContextVar[bool] = ContextVar("resilio.no_wait", default=False)
"""A wait that time alone would end, ends at once; one that needs another call is refused at once."""

parking: Callable[[Lock], object] | None = None
"""
How a thread blocks while virtual time is on: `parking(lock)` in place of `lock.acquire()`; None: for real.

It may move the clock, which releases the locks that are due. It also returns, without the lock, when virtual time ends.
"""
