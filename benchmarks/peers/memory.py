"""
What `benchmarks.micro._memory` makes many of.

`memory.NAME(number)` is a function behind the breaker of peer NAME, `memory.keyed_NAME(number)` the breaker of one key
of its breaker for each key.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.micro._work import acallee, callee

_MOST_KEYS = 1_000_000


def __getattr__(name: str) -> Callable[[int], Any]:
    if name.startswith("keyed_"):
        lookup = importlib.import_module(f"benchmarks.peers.{name.removeprefix('keyed_')}").keyed(_MOST_KEYS)
        return lambda number: lookup(f"host-{number}")
    adapter = importlib.import_module(f"benchmarks.peers.{name}")
    if hasattr(adapter, "sync_breaker"):
        return lambda _number: adapter.sync_breaker(callee())
    return lambda _number: adapter.async_breaker(acallee())
