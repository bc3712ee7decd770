"""
The other libraries, each behind one small adapter.

An adapter is a module that imports one library and has a function for each comparison that the library can take part
in, named after the comparison's key. It uses the library as its documentation shows. Beside the functions:

    DISTRIBUTION    its name as a package
    NOTES           what a reader must know to compare, by key
    CLOCK           the clock that it reads while it works, by key; none otherwise
    ABSENT          why it has no part in a comparison that one would expect it in, by key: said as a skip

Functions take and return, by key: `async_*`, `sync_*`, `host_limit`, `fleet_*`, `retry`, `fallback`, `timeout` and
`whole_stack` a function, guarded; `retried` one that fails at every other call, guarded, `timeout_suspending` and
`hedge` one that suspends, guarded; `rejection` and `async_rejection` a function that fails, guarded, and the class of
the rejection; `try_acquire` nothing, and a function that takes a token; `keyed` how many keys, and a function from a
key to its breaker; `histogram_record` seconds, and a function that records with the values to feed it; `filler`
(histogram_quantile and the table of errors) seconds, and a function from a quantile to seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from benchmarks.integrations import throughput
from benchmarks.micro._accuracy import Filler
from benchmarks.micro._attempt_work import failing_first, suspending
from benchmarks.micro._comparison import Subject
from benchmarks.micro._keyed import PeerKeyed
from benchmarks.micro._results import Skip
from benchmarks.micro._runner import Peers
from benchmarks.micro._work import QUANTILE_OF, Recording, Rejecting, acallee, afailing, callee, failing, latencies

__all__ = ["ADAPTERS", "DISTRIBUTIONS", "PLUGGED", "load", "peers"]

DISTRIBUTIONS: Mapping[str, str] = {
    "circuitbreaker": "circuitbreaker",
    "pybreaker": "pybreaker",
    "pybreaker_redis": "pybreaker",
    "aiobreaker": "aiobreaker",
    "purgatory": "purgatory",
    "purgatory_redis": "purgatory",
    "hyx": "hyx",
    "interlock": "interlock-cb",
    "interlock_redis": "interlock-cb",
    "nopanic": "nopanic",
    "pyresilience": "pyresilience",
    "tenacity": "tenacity",
    "stamina": "stamina",
    "backoff": "backoff",
    "hedge_python": "hedge-python",
    "asynchedging": "asynchedging",
    "aiolimiter": "aiolimiter",
    "limits": "limits",
    "limits_redis": "limits",
    "slowapi": "slowapi",
    "slowapi_redis": "slowapi",
    "token_throttle": "token-throttle",
    "throttled": "throttled-py",
    "throttled_redis": "throttled-py",
    "pyrate_redis": "pyrate-limiter",
    "hdrhistogram": "hdrhistogram",
    "ddsketch": "ddsketch",
    "prometheus": "prometheus-client",
}
"""Distribution by adapter."""
ADAPTERS: Sequence[str] = tuple(DISTRIBUTIONS)

PLUGGED: Sequence[str] = ("httpx", "httpx2", "requests", "aiohttp", "grpcio", "uvicorn", "werkzeug", "starlette")
"""Distributions of the clients and servers whose throughput is measured."""

_SECONDS = 4096


def _guarding(make: Callable[[Any], Any], callee_of: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: make(callee_of())


def _rejecting(make: Callable[[Any], Any], asynchronous: bool) -> Callable[[], Rejecting]:
    def rejecting() -> Rejecting:
        function, error = make(afailing() if asynchronous else failing())
        return Rejecting(function, error, asynchronous)

    return rejecting


_MAKERS: Mapping[str, Callable[[Callable[..., Any]], Callable[[], Any]]] = {
    "async_breaker": lambda make: _guarding(make, acallee),
    "async_bulkhead": lambda make: _guarding(make, acallee),
    "async_limiter": lambda make: _guarding(make, acallee),
    "async_stack": lambda make: _guarding(make, acallee),
    "retry": lambda make: _guarding(make, acallee),
    "sync_retry": lambda make: _guarding(make, callee),
    "retried": lambda make: _guarding(make, failing_first),
    "fallback": lambda make: _guarding(make, acallee),
    "timeout": lambda make: _guarding(make, acallee),
    "timeout_suspending": lambda make: _guarding(make, suspending),
    "hedge": lambda make: _guarding(make, suspending),
    "whole_stack": lambda make: _guarding(make, acallee),
    "sync_breaker": lambda make: _guarding(make, callee),
    "host_limit": lambda make: _guarding(make, callee),
    "fleet_limit": lambda make: _guarding(make, callee),
    "fleet_breaker": lambda make: _guarding(make, callee),
    "rejection": lambda make: _rejecting(make, asynchronous=False),
    "async_rejection": lambda make: _rejecting(make, asynchronous=True),
    "try_acquire": lambda make: make,
    "histogram_record": lambda make: lambda: Recording(*make(latencies(_SECONDS))),
    "histogram_quantile": lambda make: lambda: make(latencies(QUANTILE_OF)),
}


def load(adapter: str) -> ModuleType | Skip:
    """Return the adapter, or a skip with the reason why it cannot be imported."""
    try:
        return importlib.import_module(f"benchmarks.peers.{adapter}")
    except Exception as error:  # noqa: BLE001  (whatever it is, it is said)
        return Skip(DISTRIBUTIONS[adapter], f"cannot be imported: {type(error).__name__}: {error}")


def peers() -> Peers:
    """Return what all peers contribute to a run on this Python."""
    loaded = [load(adapter) for adapter in ADAPTERS]
    modules = [module for module in loaded if isinstance(module, ModuleType)]
    missing = [skip for skip in loaded if isinstance(skip, Skip)]
    return Peers(
        distributions=[*dict.fromkeys(DISTRIBUTIONS.values()), *PLUGGED],
        missing=missing,
        subjects=lambda key: _subjects(modules, key),
        fillers=_fillers(modules),
        breakers={
            f"{module.DISTRIBUTION}, new": f"benchmarks.peers.memory:{_name(module)}"
            for module in modules
            if _function(module, "sync_breaker") or _function(module, "async_breaker")
        },
        keyed={
            f"{module.DISTRIBUTION} keyed": PeerKeyed(module.keyed, f"benchmarks.peers.memory:keyed_{_name(module)}")
            for module in modules
            if _function(module, "keyed")
        },
        throughput=throughput,
    )


def _subjects(modules: Sequence[ModuleType], key: str) -> list[Subject | Skip]:
    found: list[Subject | Skip] = []
    for module in modules:
        reason = getattr(module, "ABSENT", {}).get(key)
        make = _function(module, "filler" if key == "histogram_quantile" else key)
        if reason is not None:
            found.append(Skip(module.DISTRIBUTION, reason))
        elif make is not None:
            found.append(_subject(module, key, _MAKERS[key](make)))
    return found


def _subject(module: ModuleType, key: str, make: Callable[[], Any]) -> Subject:
    note = getattr(module, "NOTES", {}).get(key, "")
    return Subject(module.DISTRIBUTION, make, getattr(module, "CLOCK", {}).get(key, "none"), note)


def _fillers(modules: Sequence[ModuleType]) -> dict[str, Filler]:
    return {module.DISTRIBUTION: module.filler for module in modules if _function(module, "filler")}


def _function(module: ModuleType, name: str) -> Callable[..., Any] | None:
    return getattr(module, name, None)


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
