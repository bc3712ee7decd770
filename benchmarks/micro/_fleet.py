"""Comparisons of policies that are shared through a store: one Valkey of the benchmark's own for all subjects."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import resilio
from benchmarks.micro import _loops, _work
from benchmarks.micro._comparison import Comparison, Unavailable
from benchmarks.micro._subjects import subject

__all__ = ["fleet_breaker", "fleet_limit", "guarded_breaker", "guarded_limit", "of_fleet"]

_RATE = 1_000_000
"""Tokens a second: more than is called for, and within what the store counts exactly."""


@cache
def of_fleet() -> Any:
    """
    Return a fleet of this process, over a server of this process.

    Raises:
        Unavailable: There is no server, or no client.
    """
    from benchmarks.peers._redis import server
    from resilio.sharing import fleet

    return fleet("bench", _client(server()), host=False)


def _client(url: str) -> Any:
    for package, name in (("valkey", "Valkey"), ("redis", "Redis")):
        with suppress(ImportError):
            return getattr(import_module(package), name).from_url(url)
    raise Unavailable("needs valkey or redis, the client")


def fleet_limit() -> Comparison:
    """A rate limit that all processes of several hosts have together."""
    return Comparison(
        "fleet_limit",
        "A rate limit for several hosts, through one store",
        "Added to `f()`, nanoseconds on the wall: what a call waits for the store counts. All have the same Valkey.",
        drive=_loops.calls_on_the_wall,
        check=_work.check_answer,
        base=lambda: _loops.calls_on_the_wall(_work.callee()),
        own=[
            subject(
                "resilio rate_limit, fleet", lambda: guarded_limit(_work.callee()), note="leases: no trip for a call"
            ),
            subject(
                "resilio rate_limit",
                lambda: guarded_limit(_work.callee(), "process"),
                note="each process counts for itself",
            ),
        ],
    )


def guarded_limit(callee: Any, scope: Any = None) -> Any:
    """Return the function, guarded by a limit of the fleet, or of another scope."""
    limit = resilio.rate_limit(f"{_RATE}/s", name=_work.fresh_name(), scope=scope or of_fleet())
    guarded, rejection = limit(callee), resilio.RateLimitedError

    def limited() -> Any:
        try:
            return guarded()
        except rejection:  # a loop without a pause is faster than a limit that the peers' trips allow
            return _work.ANSWER

    return _loops.own_code(limited)


def fleet_breaker() -> Comparison:
    """A circuit breaker that all processes of several hosts have together."""
    return Comparison(
        "fleet_breaker",
        "A circuit breaker for several hosts, through one store",
        "Added to `f()`, nanoseconds on the wall, of calls that succeed. All have the same Valkey.",
        drive=_loops.calls_on_the_wall,
        check=_work.check_answer,
        base=lambda: _loops.calls_on_the_wall(_work.callee()),
        own=[
            subject(
                "resilio circuit_breaker, fleet", lambda: guarded_breaker(_work.callee()), note="evidence is added up"
            ),
            subject(
                "resilio circuit_breaker",
                lambda: guarded_breaker(_work.callee(), "process"),
                note="each process decides for itself",
            ),
        ],
    )


def guarded_breaker(callee: Any, scope: Any = None) -> Any:
    """Return the function, guarded by a breaker of the fleet, or of another scope."""
    return resilio.circuit_breaker(_work.fresh_name(), scope=scope or of_fleet())(callee)
