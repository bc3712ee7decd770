"""token-throttle over SQLite: one count for the processes of a host, in a file."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from typing import Any

from token_throttle import PerModelConfig, Quota, SyncRateLimiter, SyncSqliteBackendBuilder, UsageQuotas

from benchmarks.micro._loops import own_code

DISTRIBUTION = "token-throttle, SQLite"
NOTES = {"host_limit": "in memory (tmpfs); it reserves before the call and settles after it, as it is meant to be used"}
CLOCK = {"host_limit": "time"}


def host_limit(f: Any) -> Any:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    backend = SyncSqliteBackendBuilder(f"{folder}/limits.sqlite3", key_prefix="bench")
    quotas = UsageQuotas([Quota(metric="requests", limit=10**9, per_seconds=1)])
    limiter = SyncRateLimiter(PerModelConfig(quotas=quotas, model_family="model"), backend)
    cost = {"requests": 1.0}

    def limited() -> Any:
        reservation = limiter.acquire_capacity(cost, "model")
        try:
            return f()
        finally:
            limiter.refund_capacity(cost, reservation)

    return own_code(limited)
