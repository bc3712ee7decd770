"""What `resilio.bench._memory` makes many of: `memory.NAME(number)` is a function behind the breaker of peer NAME."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from resilio.bench._work import acallee, callee


def __getattr__(name: str) -> Callable[[int], Any]:
    adapter = importlib.import_module(f"benchmarks.peers.{name}")
    if hasattr(adapter, "sync_breaker"):
        return lambda _number: adapter.sync_breaker(callee())
    return lambda _number: adapter.async_breaker(acallee())
