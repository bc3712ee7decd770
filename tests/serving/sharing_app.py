"""An application whose policies are shared by the workers of a host; as WSGI and as ASGI."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from resilio import BulkheadFullError, RateLimitedError, bulkhead, rate_limit
from resilio.sharing import host

GATES_SHARE = hasattr(rate_limit("1/s")._gate, "share") and hasattr(bulkhead(1)._gate, "share")
"""False while these kinds of gates cannot be shared."""


class Worker:
    """What stands for a policy: its calls make this process a worker."""

    kind = "rate_limit"
    name = _given = "worker"
    _link = None

    def _sharing_gate(self) -> Worker:
        return self

    def cell_wanted(self) -> tuple[int, bytes, int]:
        return 1, b"", 64

    def share(self, cell: Any) -> None:
        self.cell = cell

    def call(self) -> dict[str, Any]:
        assert self._link is not None
        member = self.cell.region.join()
        sharing = self._link.sharing()
        return {"slot": member.slot, "peers": sharing.peers, "degraded": sharing.degraded, "group": sharing.scope}


class Policies:
    """The policies of the application, if their gates can be shared."""

    def __init__(self) -> None:
        self.orders = rate_limit("100/s", burst=100, name="orders", scope="host")
        self.database = bulkhead(2, name="database", scope="host")

    def answer(self, path: str) -> dict[str, Any]:
        try:
            if path == "/limit":
                self.orders.call(int)
            elif path == "/hold":
                self.database.call(time.sleep, 600.0)
            elif path == "/permit":
                self.database.call(int)
        except (BulkheadFullError, RateLimitedError) as error:
            return {"passed": False, "reason": error.reason}
        return {"passed": True}


worker = Worker()
host()  # the group is that of the process that loads the application
policies = Policies() if GATES_SHARE else None


def _tie() -> None:
    from resilio._policies.rate_limit.policy import RateLimitConfig
    from resilio.sharing import _attach

    _attach.share(worker, RateLimitConfig(rates=("1/s",), scope="host"))


_tie()


def answer(path: str) -> bytes:
    """What a worker says of itself, after a call through the limit, or with a permit that it keeps for a while."""
    said = {} if policies is None else policies.answer(path)
    return json.dumps({"pid": os.getpid(), **worker.call(), **said}).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer in JSON."""
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answer in JSON; a permit is kept in a thread."""
    import asyncio

    if scope["type"] != "http":
        return
    body = await asyncio.to_thread(answer, scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
