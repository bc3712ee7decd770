"""
Policies that the processes of a host have together, in shared memory; and those of several hosts, through a store.

    payments = circuit_breaker("payments", scope="host")
    orders = rate_limit("100/s", name="orders", scope=host("shop", directory="/run/shop"))
    model = rate_limit("3500/min", name="model", scope=fleet("shop", valkey.Valkey.from_url(url)))

A policy that is shared counts what all workers see and gives what all may have. No call waits for another process, and
no lock lies in the memory: a worker that is killed anywhere leaves nothing behind that another would wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from resilio._policy.snapshot import Sharing
from resilio.sharing._host import Host
from resilio.sharing._make import host
from resilio.sharing._report import SharingWarning

if TYPE_CHECKING:
    from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem
    from resilio.sharing._fleet.engines import Engine, StoreError
    from resilio.sharing._fleet.engines.memory import MemoryEngine
    from resilio.sharing._fleet.fleet import Fleet
    from resilio.sharing._fleet.make import fleet
    from resilio.sharing._fleet.rules import exchange, keeps_us

__all__ = [
    "Answer",
    "Ask",
    "Engine",
    "Fleet",
    "Host",
    "MemoryEngine",
    "Sharing",
    "SharingWarning",
    "StoreError",
    "StoreProblem",
    "exchange",
    "fleet",
    "host",
    "keeps_us",
]


_OF_FLEETS = {
    "Answer": "ask",
    "Ask": "ask",
    "Engine": "engines",
    "Fleet": "fleet",
    "MemoryEngine": "engines.memory",
    "StoreError": "engines",
    "StoreProblem": "ask",
    "exchange": "rules",
    "fleet": "make",
    "keeps_us": "rules",
}
"""Names of modules that policies of one host never need: they are imported at their first use."""


def __getattr__(name: str) -> Any:
    if name not in _OF_FLEETS:
        raise AttributeError(f"module 'resilio.sharing' has no attribute {name!r}")
    value = getattr(import_module(f"resilio.sharing._fleet.{_OF_FLEETS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
