"""slowapi over a Redis: one count for all workers, and a trip for each request."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import slowapi
from benchmarks.peers._redis import server

DISTRIBUTION = "slowapi, Redis"
NOTES = dict.fromkeys(
    ("host_limit", "fleet_limit"), "a fixed window; one trip to a server on this machine for each request"
)
CLOCK = dict.fromkeys(("host_limit", "fleet_limit"), "the server's")


def host_limit(f: Any) -> Any:
    return slowapi.host_limit(f, server())


fleet_limit = host_limit
