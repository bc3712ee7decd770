"""limits over a Redis: one count for all processes that know it, and a trip for each call."""

from __future__ import annotations

from typing import Any

from limits import RateLimitItemPerSecond
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from benchmarks.micro._loops import own_code
from benchmarks.peers._redis import server

DISTRIBUTION = "limits, Redis"
NOTES = dict.fromkeys(
    ("host_limit", "fleet_limit"), "a fixed window; one trip to a server on this machine for each call"
)
CLOCK = dict.fromkeys(("host_limit", "fleet_limit"), "the server's")


def host_limit(f: Any) -> Any:
    limiter, item = FixedWindowRateLimiter(storage_from_string(server())), RateLimitItemPerSecond(10**9)

    def limited() -> Any:
        if not limiter.hit(item, "key"):
            raise RuntimeError("limited")
        return f()

    return own_code(limited)


fleet_limit = host_limit
