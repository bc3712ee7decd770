"""One request to an ASGI app without a server: what it receives is scripted, what it sends is kept."""

from __future__ import annotations

from typing import Any

import anyio

__all__ = ["Request", "Socket"]


class Request:
    """An HTTP request; `await request.to(app)` serves it, `leave()` is the client's going away."""

    kind = "http"

    def __init__(
        self,
        path: str = "/",
        *,
        headers: dict[str, str] | list[tuple[str, str]] = {},  # noqa: B006 - never changed
        body: tuple[bytes, ...] = (b"",),
        client: tuple[str, int] | None = ("10.0.0.7", 4711),
        http_version: str = "1.1",
        extensions: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.scope = {
            "type": self.kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": http_version,
            "method": "POST" if body != (b"",) else "GET",
            "path": path,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            "client": client,
            "extensions": extensions,
            **more,
        }
        self.sent: list[dict[str, Any]] = []
        self.received: list[dict[str, Any]] = []
        self.left = anyio.Event()
        self.broken = False  # sending raises, as some servers do once the client has left
        self._script = self._beginning(body)

    def _beginning(self, body: tuple[bytes, ...]) -> list[dict[str, Any]]:
        last = len(body) - 1
        return [{"type": "http.request", "body": part, "more_body": at < last} for at, part in enumerate(body)]

    def _end(self) -> dict[str, Any]:
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self.left.set()

    async def receive(self) -> dict[str, Any]:
        if self._script and not self.left.is_set():
            message = self._script.pop(0)
        else:
            await self.left.wait()
            message = self._end()
        self.received.append(message)
        return message

    async def send(self, message: dict[str, Any]) -> None:
        if self.broken:
            raise BrokenPipeError("nobody is there")
        self.sent.append(message)

    async def to(self, app: Any) -> Request:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def starts(self) -> int:
        return sum(message["type"] == "http.response.start" for message in self.sent)

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.sent if message["type"].endswith("response.start")), None)

    @property
    def headers(self) -> dict[str, str]:
        start = next(message for message in self.sent if message["type"].endswith("response.start"))
        return {name.decode(): value.decode() for name, value in start["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent if m["type"].endswith("response.body"))


class Socket(Request):
    """A websocket: connects, then sends what it is told to, then leaves with `code`."""

    kind = "websocket"

    def __init__(self, *texts: str, code: int = 1000, **more: Any) -> None:
        self.code = code
        self._texts = texts
        super().__init__(**more)

    def _beginning(self, body: tuple[bytes, ...]) -> list[dict[str, Any]]:
        return [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in self._texts)]

    def _end(self) -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": self.code}
