"""
The two ambient switches that `resilio.testing` sets and the core reads.

The core looks at them only while somebody has entered one (`core.bypass_enter`, `core.nowait_enter` count), so they
cost nothing outside tests. They are context variables: one test's switch does not reach a neighbour's tasks.
"""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["bypass", "no_wait"]

bypass: ContextVar[bool] = ContextVar("resilio.bypass", default=False)
no_wait: ContextVar[bool] = ContextVar("resilio.no_wait", default=False)
