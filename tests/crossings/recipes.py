"""
How to make one policy of each kind: ready to admit, and rejecting (tripped, full, spent).

`tests/crossings/test_whole.py` fails if a registered kind has no recipe here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import attrs

from resilio import (
    Endpoint,
    RetryBudget,
    adaptive_limit,
    bulkhead,
    circuit_breaker,
    constant,
    custom_gate,
    deadline,
    fallback,
    gates,
    hedge,
    keyed,
    load_shed,
    pipeline,
    pool,
    rate_limit,
    retry,
    spend_limit,
    standard,
    timeout,
)

__all__ = ["BY_PRESET", "FACTORIES", "JUDGING", "READY", "REJECTING", "STRATEGIES", "Part", "Way"]


@attrs.frozen
class Way:
    """How calls are made: in threads or tasks, of streams or not."""

    threads: bool = True
    stream: bool = False
    block: bool = False


@attrs.define
class Part:
    """A policy, and what ends that it rejects."""

    policy: Any
    let_in: Callable[[], object] = ExitStack().close


Make = Callable[[Way], Any]
_names = itertools.count()


class Door:
    """A custom gate's object: open or shut."""

    kind, reasons = "door", ("shut",)

    def __init__(self, *, shut: bool) -> None:
        self.shut = shut
        self.inside = 0

    def admit(self, call: Any) -> Any:
        if self.shut:
            return gates.Reject("shut")
        self.inside += 1
        return None

    def settle(self, call: Any, outcome: Any, seconds: float) -> None:
        self.inside -= 1

    def cancel(self, call: Any) -> None:
        self.inside -= 1


def _three(**options: Any) -> Any:
    return pool(None, *map(Endpoint, "abc"), on="http", **options)


def _stack(way: Way) -> Any:
    twice = not (way.threads or way.stream)
    return standard(f"crossing {next(_names)}", on="http", idempotent=twice, max_concurrent=8, timeout=None)


READY: dict[str, Make] = {
    "adaptive_limit": lambda way: adaptive_limit(on="http"),
    "bulkhead": lambda way: bulkhead(8),
    "circuit_breaker": lambda way: circuit_breaker(on="http"),
    "custom": lambda way: custom_gate(Door(shut=False)),
    "deadline": lambda way: deadline(15.0),
    "fallback": lambda way: fallback(on="http", default="default"),
    "hedge": lambda way: hedge(idempotent=True, on="http", after=0.1),
    "keyed": lambda way: keyed(lambda: circuit_breaker(on="http"), key=lambda *_: "key"),
    "load_shed": lambda way: load_shed(),
    "pipeline": lambda way: pipeline(circuit_breaker(on="http"), bulkhead(8)),
    "pool": lambda way: _three(),
    "rate_limit": lambda way: rate_limit("1000/day"),
    "retry": lambda way: retry(
        on="http", idempotent=True, backoff=constant(0.05), budget=RetryBudget(cap=100, initial=100)
    ),
    "retry_budget": lambda way: retry(on="http", idempotent=True, budget=RetryBudget(initial=0, reserve=0)),
    "spend_limit": lambda way: spend_limit("1000 USD/day", reserve=0.05),
    "standard": _stack,
    "timeout": lambda way: timeout(12.0, thread=way.threads),
}
"""A policy that admits calls, by kind or factory."""


def _open(breaker: Any) -> Part:
    breaker.force_open()
    return Part(breaker, breaker.reset)


def _full(policy: Any) -> Part:
    return Part(policy, policy.acquire().cancel)


def _spent_tokens() -> Part:
    limit = rate_limit("1/day")
    limit.call(int)
    return Part(limit, limit.reset if hasattr(limit, "reset") else lambda: None)


def _spent_money() -> Part:
    day = spend_limit("0.05 USD/day", reserve=0.05)
    return Part(day, day.acquire().cancel)


def _shut() -> Part:
    door = Door(shut=True)
    return Part(custom_gate(door), lambda: setattr(door, "shut", False))


def _open_key() -> Part:
    per_key = keyed(lambda: circuit_breaker(on="http"), key=lambda *_: "key")
    per_key["key"].force_open()
    return Part(per_key, per_key["key"].reset)


def _open_pipeline() -> Part:
    inner = _open(circuit_breaker(on="http"))
    return Part(pipeline(inner.policy, bulkhead(8)), inner.let_in)


def _ejected() -> Part:
    ends = _three()
    for name in "abc":
        ends[name].force_open()
    return Part(ends, ends.reset)


REJECTING: dict[str, Callable[[], Part]] = {
    "adaptive_limit": lambda: _full(adaptive_limit(on="http", start=1, ceiling=1)),
    "bulkhead": lambda: _full(bulkhead(1)),
    "circuit_breaker": lambda: _open(circuit_breaker(on="http")),
    "custom": _shut,
    "keyed": _open_key,
    "load_shed": lambda: _full(load_shed(max_concurrent=1, target=0.01)),
    "pipeline": _open_pipeline,
    "pool": _ejected,
    "rate_limit": _spent_tokens,
    "spend_limit": _spent_money,
}
"""A policy that rejects calls, with what lets them in again."""
STRATEGIES = frozenset({"deadline", "fallback", "hedge", "retry", "retry_budget", "standard", "timeout"})
"""Kinds that run a call: they have no state of their own in which they reject all."""
BY_PRESET = frozenset({"adaptive_limit", "circuit_breaker", "keyed", "pool"})
"""Gates whose recipe names a preset of outcomes; others know raised from returned."""
JUDGING = frozenset(READY) - STRATEGIES | {"fallback"}
"""Kinds whose counters have an end for each call of the function."""
FACTORIES = frozenset({"standard"})
"""Recipes that are no kind of their own."""
