"""purgatory: a factory that keeps circuits by name in a unit of work."""

from __future__ import annotations

from typing import Any

from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory

DISTRIBUTION = "purgatory"
NOTES = dict.fromkeys(
    ("async_breaker", "sync_breaker"), "counts consecutive failures; looks the circuit up by name at each call"
)
_GROWS = "raises one exception object again and again, whose traceback grows without end: no steady figure"
ABSENT = dict.fromkeys(("rejection", "async_rejection"), _GROWS)


def async_breaker(f: Any) -> Any:
    return AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=600)("circuit")(f)


def sync_breaker(f: Any) -> Any:
    return SyncCircuitBreakerFactory(default_threshold=5, default_ttl=600)("circuit")(f)
