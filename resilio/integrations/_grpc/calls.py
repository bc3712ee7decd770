"""
Proxies of streaming gRPC calls: the permit ends with the call, or when the caller drops the proxy.

grpcio keeps a call alive until its end, even if the caller has dropped it. So the caller receives a proxy without other
references. When the proxy is collected, the call is cancelled and its permit returned.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from resilio.integrations._grpc.lib import Code, aio
from resilio.integrations._shared.held_permits import Lease

if TYPE_CHECKING:
    from types import FrameType

    from resilio._native.core import Permit

__all__ = ["Messages", "StreamCall", "StreamLease", "StreamStream", "StreamUnary", "UnaryStream", "ended_with"]

T = TypeVar("T")
_FRAMES = 3
"""Most frames to look up for a finaliser of grpcio."""


def _now(answer: Coroutine[Any, Any, T]) -> T | None:
    """Return the immediate result of a coroutine of an ended call; None if it would wait."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    answer.close()
    return None


def ended_with(call: Any) -> Any:
    """Return the error of an ended call; None for OK."""
    code = _now(call.code())
    if code is Code.OK:
        return None
    return aio.AioRpcError(
        code or Code.UNKNOWN,
        _now(call.initial_metadata()),
        _now(call.trailing_metadata()),
        details=_now(call.details()),
        debug_error_string=_now(call.debug_error_string()),
    )


class StreamLease(Lease):
    """The permits of a call with a streamed answer; latency is measured up to its first message."""

    __slots__ = ("begun",)

    def __init__(self, label: str) -> None:
        """
        Begin without permits.

        Args:
            label: Name of the call in the log, if it is abandoned.
        """
        super().__init__(label)
        self.begun = False

    def take(self, permit: Permit, answer: Any) -> None:  # noqa: ARG002 - there is nothing to be judged yet
        """Hold a permit."""
        if self.begun:
            permit.first_item()
        self.hold(permit)

    def first(self) -> None:
        """Note the arrival of the first message."""
        self.begun = True
        self.first_item()


class StreamCall:
    """Base of all proxies of streaming calls; ends its lease when it is dropped."""

    def __init__(self, call: Any, lease: StreamLease, filling: asyncio.Task[None] | None = None) -> None:
        """
        Wrap a call.

        Args:
            call: The call, in flight.

            lease: Its permits.

            filling: The task that passes on the messages that the caller writes, or None.
        """
        self._call = call
        self._filling = filling
        self._lease = lease
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[Any], object]] = []
        known: weakref.ref[StreamCall] = weakref.ref(self)
        call.add_done_callback(lambda _: _tell(known))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_call":
            raise AttributeError(name)
        return getattr(self._call, name)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is None or call.done():
            return
        self._given_up()
        if asyncio._get_running_loop() is self._loop:
            call.cancel()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call.cancel)

    def cancel(self) -> bool:
        """Cancel the call; its outcome is ignored."""
        if not self._call.done() and _in_a_finaliser():
            self._given_up()
        return bool(self._call.cancel())

    def _given_up(self) -> None:
        self._lease.end("abandoned")
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:  # called at the end, although the proxy is gone
            self._call.add_done_callback(callback)

    def cancelled(self) -> bool:
        """Return True if the call was cancelled."""
        return bool(self._call.cancelled())

    def done(self) -> bool:
        """Return True if the call has ended."""
        return bool(self._call.done())

    def time_remaining(self) -> float | None:
        """Return the seconds until its deadline."""
        return cast("float | None", self._call.time_remaining())

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Register `callback(call)` for the end of the call; this does not keep the proxy alive."""
        if self._call.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    # Not coroutine functions: a caller that waits for the end must not keep this object alive.

    def initial_metadata(self) -> Any:
        """Return an awaitable of the initial metadata."""
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Any:
        """Return an awaitable of the trailing metadata."""
        return self._call.trailing_metadata()

    def code(self) -> Any:
        """Return an awaitable of the status."""
        return self._call.code()

    def details(self) -> Any:
        """Return an awaitable of the status's text."""
        return self._call.details()

    def wait_for_connection(self) -> Any:
        """Return an awaitable that completes once there is a connection."""
        return self._call.wait_for_connection()

    def __repr__(self) -> str:
        return repr(self._call)


class Messages(AsyncIterator[Any]):
    """Messages of a call. The first one ends the latency, and may be awaited before the caller reads it."""

    __slots__ = ("_lease", "_messages", "_seen")

    def __init__(self, call: Any, lease: StreamLease) -> None:
        """
        Read a call, from now on by iteration only.

        Args:
            call: The call, in flight.

            lease: Its permits.
        """
        self._messages = call.__aiter__()
        self._lease = lease
        self._seen: list[Any] = []

    async def look(self) -> None:
        """Wait for the first message, or for the end without one; raise the call's error."""
        with suppress(StopAsyncIteration):
            self._seen.append(await self._messages.__anext__())
            self._lease.first()

    def __anext__(self) -> Any:
        return self._messages.__anext__() if self._lease.begun and not self._seen else self._first()

    async def _first(self) -> Any:
        if self._seen:
            return self._seen.pop()
        message = await self._messages.__anext__()
        self._lease.first()
        return message


class _Answers:
    """The streamed answer."""

    _call: Any
    _lease: StreamLease
    messages: Messages | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        if self.messages is None:
            self.messages = Messages(self._call, self._lease)
        return self.messages

    async def read(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`."""
        if self.messages is not None:
            return await anext(self.messages, aio.EOF)
        message = await self._call.read()
        if not self._lease.begun and message is not aio.EOF:
            self._lease.first()
        return message


class _Requests:
    """The streamed request."""

    _call: Any

    def write(self, request: Any) -> Any:
        """Return an awaitable that sends a message."""
        return self._call.write(request)

    def done_writing(self) -> Any:
        """Return an awaitable that ends the stream of messages."""
        return self._call.done_writing()


class UnaryStream(StreamCall, _Answers, aio.UnaryStreamCall):  # type: ignore[misc]
    """A call with a streamed answer."""


class StreamUnary(StreamCall, _Requests, aio.StreamUnaryCall):  # type: ignore[misc]
    """A call with a streamed request and one message as its answer."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return cast("Generator[Any, Any, Any]", self._call.__await__())


class StreamStream(StreamCall, _Answers, _Requests, aio.StreamStreamCall):  # type: ignore[misc]
    """A call with a streamed request and a streamed answer."""


def _tell(known: weakref.ref[StreamCall]) -> None:
    """Call the callbacks of an ended call's proxy, if that still exists."""
    stands_for = known()
    if stands_for is not None:
        if stands_for._filling is not None:
            stands_for._filling.cancel()
        callbacks, stands_for._callbacks = stands_for._callbacks, []
        for callback in callbacks:
            callback(stands_for)


def _in_a_finaliser() -> bool:
    """Return True if a finaliser of grpcio cancels the call, False if the caller does."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
