"""A client that speaks ASGI to an app in the same task: no sockets, no server, one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import attrs

__all__ = ["Response", "request"]


@attrs.frozen
class Response:
    """What the app has answered."""

    status: int
    headers: dict[str, str]
    body: bytes


async def request(
    app: Any,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    stop: Any = None,
    **scope: Any,
) -> Response:
    """
    Send a request and return the answer.

    Args:
        app: Asked once.

        method: Of the request.

        path: With its query.

        headers: Of the request.

        body: Of the request; sent in two pieces.

        stop: Told the body so far, says when the client goes away; None: it stays to the end.

        scope: Further fields of the scope.
    """
    plain, _, query = path.partition("?")
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    full = {"type": "http", "method": method, "path": plain, "query_string": query.encode(), "headers": pairs, **scope}
    half = len(body) // 2
    parts = ((body[:half], True), (body[half:], False))
    pieces = [{"type": "http.request", "body": part, "more_body": more} for part, more in parts]
    gone = anyio.Event()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if pieces:
            return pieces.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if stop is not None and stop(b"".join(one.get("body", b"") for one in sent)):
            gone.set()
            await anyio.lowlevel.checkpoint()

    await app(full, receive, send)
    start = sent[0]
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Response(start["status"], answered, b"".join(one.get("body", b"") for one in sent[1:]))
