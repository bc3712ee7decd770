"""The systems under test, each set up as its documentation shows, with the same two endpoints."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from benchmarks.failover._play import System

__all__ = ["SYSTEMS", "load"]

SYSTEMS: Mapping[str, str] = {
    "resilio": "ours:POOL",
    "openai": "openai_sdk:BARE",
    "litellm": "litellm_router:ROUTER",
    "litellm-tuned": "litellm_router:TUNED",
}
"""Module and object, by the name on the command line."""


def load(name: str) -> System:
    """
    Return a system.

    Args:
        name: One of `SYSTEMS`.

    Raises:
        ImportError: Its library is not installed.
    """
    module, _, found = SYSTEMS[name].partition(":")
    system: System = getattr(importlib.import_module(f"benchmarks.failover.systems.{module}"), found)
    return system
