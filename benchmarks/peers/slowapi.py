"""slowapi: limits behind a decorator of an endpoint, which gets a request."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from slowapi import Limiter
from starlette.requests import Request

DISTRIBUTION = "slowapi"
NOTES = {"host_limit": "in memory: each process counts for itself; a fixed window; with a request that is made before"}
CLOCK = {"host_limit": "time"}


def host_limit(f: Any, storage_uri: str = "memory://") -> Any:
    limiter = Limiter(key_func=lambda: "key", storage_uri=storage_uri)
    app = SimpleNamespace(state=SimpleNamespace(limiter=limiter))
    request = Request({"type": "http", "app": app, "path": "/", "headers": [], "state": {}})

    @limiter.limit("1000000000/second")
    def endpoint(request: Request) -> Any:
        del request
        return f()

    def fresh() -> Any:
        request.state._state.clear()  # what slowapi has noted of the call before
        return endpoint(request=request)

    return partial(fresh)
