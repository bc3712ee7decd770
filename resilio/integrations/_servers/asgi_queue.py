"""
The wait of a request for its permit, which ends if its client leaves, so that its place in the queue is free.

A server reports that a client has left only to an app that reads past the end of the request. So a waiting request is
read ahead, with its body if that is short, and the app receives the messages later. A body that is long, or waits for
`100 Continue`, is not read. If a body turns out to be long, reading stops, and the request waits for its permit alone.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from anyio import create_task_group

from resilio._backends import use_trio
from resilio._native.core import Call, Permit, Pipeline
from resilio.integrations._servers.asgi_request import Message, Receive, RequestContext

__all__ = ["admit"]

READ_AHEAD = 65_536
"""Bytes of a body that are read while its request waits."""


class _Cancels(Protocol):
    def cancel(self) -> object:
        """Cancel the block."""


class _Resumed:
    """Continues a call that has already suspended once, in the same task."""

    __slots__ = ("_call", "_trap")

    def __init__(self, call: Call[Permit], trap: Any) -> None:
        self._call = call
        self._trap = trap

    def __await__(self) -> Generator[Any, Any, Permit]:
        trap = self._trap
        try:
            while True:
                try:
                    sent = yield trap
                except BaseException as error:  # noqa: BLE001 - thrown into the call
                    trap = self._call.throw(error)
                else:
                    trap = self._call.send(sent)
        except StopIteration as end:
            permit: Permit = end.value
            return permit


class _Ahead:
    """Messages received while the request waited, kept for the app."""

    __slots__ = ("_receive", "gone", "kept")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.kept: list[Message] = []
        self.gone = False

    async def watch(self, waiting: _Cancels) -> None:
        """End the wait if the client leaves."""
        room = READ_AHEAD  # counted, because in HTTP/2 and later a body of unknown length has no header
        while room >= 0:
            try:
                message = await self._receive()
            except Exception:  # noqa: BLE001 - left to the app, which will meet it again
                return
            self.kept.append(message)
            if message["type"] in {"http.disconnect", "websocket.disconnect"}:
                self.gone = True
                waiting.cancel()
                return
            room -= len(message.get("body") or b"")

    async def receive(self) -> Message:
        """Receive the next message for the app."""
        return self.kept.pop(0) if self.kept else await self._receive()


async def admit(
    policy: Pipeline, request: RequestContext, scope: Any, begun: Permit | tuple[Call[Permit], Any] | None = None
) -> None:
    """
    Acquire a permit for a request. If its client leaves meanwhile, its place in the queue is given up.

    Args:
        policy: The policy.

        request: The request, whose `permit` is set; None afterwards if the client has left.

        scope: The ASGI scope of the request.

        begun: Result of `policy._begin(scope)`; None if that was not called.

    Raises:
        Exception: The rejection.
    """
    if begun is None:
        if use_trio():
            await _admit_on_trio(policy.aacquire(scope), request, watched=_may_be_read(scope))
            return
        begun = policy._begin(scope)
    if isinstance(begun, tuple):  # only a wait pays for a watcher of its client; an `await` would not show which it is
        await _wait(*begun, request, scope)
    else:
        request.permit = begun


async def _wait(call: Call[Permit], trap: Any, request: RequestContext, scope: Any) -> None:
    """Complete, on asyncio, an acquisition that has suspended with `trap`."""
    if not _may_be_read(scope):
        request.permit = await _Resumed(call, trap)
        return
    ahead, rejection = _Ahead(request.source), None
    try:
        async with create_task_group() as group:
            group.start_soon(ahead.watch, group.cancel_scope)
            try:
                request.permit = await _Resumed(call, trap)
            except Exception as error:  # noqa: BLE001 - the group would wrap it
                rejection = error
            group.cancel_scope.cancel()
    except BaseException:
        _give_back(request)
        raise
    if rejection is not None and not ahead.gone:
        raise rejection
    _read_on(request, ahead)


async def _admit_on_trio(call: Call[Permit], request: RequestContext, *, watched: bool) -> None:
    """
    Acquire a permit on trio.

    A wait has a cancel scope of its own, so the scope that can end it must be entered before and left after it. A
    nursery for each request would be expensive: the watcher is a system task, which ends before this function does.
    """
    import trio

    ahead, over = _Ahead(request.source), trio.Event()
    with trio.CancelScope() as waiting:
        try:
            trap = call.send(None)
        except StopIteration as admitted:
            request.permit = admitted.value
            return
        if not watched:
            request.permit = await _Resumed(call, trap)
            return
        watching = trio.CancelScope()

        async def watch() -> None:
            with watching:
                await ahead.watch(waiting)
            over.set()

        trio.lowlevel.spawn_system_task(watch)
        try:
            request.permit = await _Resumed(call, trap)
        finally:
            watching.cancel()
            with trio.CancelScope(shield=True):
                await over.wait()
    _read_on(request, ahead)


def _read_on(request: RequestContext, ahead: _Ahead) -> None:
    """Let the app receive the messages read ahead; if the client has left, return the permit."""
    request.source = ahead.receive
    if ahead.gone:
        _give_back(request)


def _give_back(request: RequestContext) -> None:
    permit, request.permit = request.permit, None
    if permit is not None:
        permit.cancel()


def _may_be_read(scope: Any) -> bool:
    """Return True if the request may be read ahead: it is short and sent without `100 Continue`."""
    if scope["type"] != "http":
        return True
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers or b"expect" in headers:
        return False
    length = headers.get(b"content-length", b"0")
    return len(length) <= 5 and length.isdigit() and int(length) <= READ_AHEAD
