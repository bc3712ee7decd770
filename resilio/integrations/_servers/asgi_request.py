"""
State of one ASGI request in the middleware: its messages, and the end of its permit.

The permit covers the making of the response. It ends once the server has taken the last byte of the body, or when the
client leaves; otherwise when the app returns. Background work of the app after the response holds no permit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from resilio.integrations._servers.middleware import settle

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["HTTPContext", "Message", "Receive", "RequestContext", "Scope", "Send", "SocketContext", "TimedHTTPContext"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BUFFERED = 65_536
"""Longest body, in bytes, that servers and kernels buffer at once."""

FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
NORMAL_CLOSE = frozenset({1000, 1001, 1005})
"""Close codes of a websocket that ended normally."""


class RequestContext(ABC):
    """
    The permit of one request, ended once, by the first event that can end it.

    Attributes:
        permit: The permit; None before its acquisition and after its end.

        source: Function that receives the client's messages.

        started: The response's status once it has begun, else 0.
    """

    __slots__ = ("_send", "_streams", "permit", "source", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - read by subclasses
        """
        Begin without a permit.

        Args:
            scope: The request.

            receive: The server's `receive`.

            send: The server's `send`.
        """
        self.permit: Permit | None = None
        self.started = 0
        self.source = receive
        self._send = send
        self._streams = False  # whether a part of the body has been sent

    @abstractmethod
    async def receive(self) -> Message:
        """Receive for the app, and end the permit if the client has left."""

    @abstractmethod
    def send(self, message: Message) -> Awaitable[None]:
        """Send for the app, and end the permit with the last byte."""

    @abstractmethod
    def ended(self) -> None:
        """End the permit because the app has returned."""

    @abstractmethod
    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response in place of the app's; the request has not been read."""

    def failed(self, error: BaseException) -> None:
        """End the permit; its gates judge the app's exception."""
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if type(error) is GeneratorExit:  # the task was dropped
            permit.abandon()
        else:
            permit.raised(error)

    def left(self) -> None:
        """End the permit because the client has left; the outcome is ignored."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.ignore()

    def _end(self, status: int) -> None:
        """End the permit by the status."""
        permit, self.permit = self.permit, None
        if permit is not None:
            settle(permit, status)

    async def _send_last(self, message: Message, permit: Permit, status: int) -> None:
        """
        Send the last message of the response, and end the permit once the server has taken it.

        The caller detaches the permit first: a server may report that the client has left before this returns.
        """
        try:
            await self._send(message)
        except OSError:  # raised by servers if the client has left
            permit.ignore()
            raise
        except BaseException as error:
            permit.raised(error)
            raise
        settle(permit, status)


class HTTPContext(RequestContext):
    """An HTTP request."""

    __slots__ = ()

    async def receive(self) -> Message:
        """Receive for the app, and note that the client has left."""
        message = await self.source()
        if message["type"] == "http.disconnect":
            self.left()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """
        Send for the app, and end the permit with the last byte of the body.

        A short body that is sent as a whole counts as taken at once; otherwise the permit waits for the server.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self.started = message["status"]
        elif kind == "http.response.body":
            if message.get("more_body"):
                return self._send_part(message)
            permit, self.permit = self.permit, None
            if permit is not None:
                if self._streams or len(message.get("body") or b"") > BUFFERED:
                    return self._send_last(message, permit, self.started)
                if self.started < 400:
                    permit.success()  # as `settle` does
                else:
                    settle(permit, self.started)
        elif kind in FILES:
            return self._send_file(message)
        return self._send(message)

    async def _send_file(self, message: Message) -> None:
        permit = self.permit
        if permit is None or message.get("more_body"):
            await self._send_part(message)
        else:
            self.permit = None
            await self._send_last(message, permit, self.started)

    async def _send_part(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.left()
            raise
        if not self._streams and message.get("body") != b"":
            self._streams = True
            if self.permit is not None:
                self.permit.first_item()

    def ended(self) -> None:
        """End the permit because the app has returned; an incomplete response is a failure."""
        self._end(500)

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole response in place of the app's; the request has not been read."""
        self.started = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


class TimedHTTPContext(HTTPContext):
    """An HTTP request whose response has a header Server-Timing: the time spent so far, by segment."""

    __slots__ = ()

    def send(self, message: Message) -> Awaitable[None]:
        """Send as the base class does, with the header added."""
        if message["type"] == "http.response.start" and self.permit is not None:
            timing = self.permit.segments.server_timing()
            if timing:
                headers = [*message.get("headers", ()), (b"server-timing", timing.encode("ascii"))]
                message = {**message, "headers": headers}
        return super().send(message)


class SocketContext(RequestContext):
    """A websocket: the permit lasts until one side closes it; its latency is the time until it is accepted."""

    __slots__ = ("_denies",)

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin without a permit; note whether the server can send a response in place of a handshake."""
        super().__init__(scope, receive, send)
        self._denies = "websocket.http.response" in (scope.get("extensions") or ())

    async def receive(self) -> Message:
        """Receive for the app, and end the permit with the connection."""
        message = await self.source()
        if message["type"] == "websocket.disconnect":
            if message.get("code", 1005) in NORMAL_CLOSE:
                self._end(200)
            self.left()
        return message

    async def send(self, message: Message) -> None:
        """Send for the app, and end the permit with the connection."""
        kind = message["type"]
        permit = self.permit
        status = self._status_of(kind, message)
        if permit is not None and status:
            self.permit = None
            await self._send_last(message, permit, status)
            return
        if kind in {"websocket.accept", "websocket.http.response.start"}:
            self.started = message.get("status", 101)
        try:
            await self._send(message)
        except OSError:
            self.left()
            raise
        if kind == "websocket.accept" and permit is not None:
            permit.first_item()

    def _status_of(self, kind: str, message: Message) -> int:
        """Return the equivalent HTTP status of a message that ends the connection; 0 if it does not end."""
        if kind == "websocket.close":
            if not self.started:
                return 403  # the app rejects the handshake, which is not its failure
            return 500 if message.get("code", 1000) == 1011 else 200
        if kind == "websocket.http.response.body" and not message.get("more_body"):
            return self.started
        return 0

    def ended(self) -> None:
        """End the permit because the app has returned, which closes the connection."""
        self._end(200 if self.started else 500)

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Reject the handshake, with the response if the server supports that; else the server answers 403."""
        self.started = status
        if not self._denies:
            await self._send({"type": "websocket.close", "code": 1013, "reason": "try again later"})
            return
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})
