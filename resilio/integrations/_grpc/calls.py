"""
Calls of gRPC with an answer that streams, as their user holds them: the permit ends with the call, or with its user.

grpcio keeps a call alive until it has ended, even if the user has dropped it. So the user gets a stand-in that has no
other references: when it is collected, the call is cancelled and its permit given back.
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
"""How far up a finaliser of grpcio is, at most."""


def _now(answer: Coroutine[Any, Any, T]) -> T | None:
    """Return what a coroutine of a call that is over gives at once; None if it would wait after all."""
    try:
        answer.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    answer.close()
    return None


def ended_with(call: Any) -> Any:
    """Return the error that a call has ended with, None for OK; it is over."""
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
    """The permits of a call whose answer streams: latency is measured up to its first message."""

    __slots__ = ("begun",)

    def __init__(self, label: str) -> None:
        """
        Hold nothing yet.

        Args:
            label: What is abandoned, for the log.
        """
        super().__init__(label)
        self.begun = False

    def take(self, permit: Permit, answer: Any) -> None:  # noqa: ARG002 - there is nothing to be judged yet
        """Hold a permit."""
        if self.begun:
            permit.first_item()
        self.hold(permit)

    def first(self) -> None:
        """The first message is here."""
        self.begun = True
        self.first_item()


class StreamCall:
    """What all kinds of streaming calls have: it stands for `call`, and drops its lease when it is dropped."""

    def __init__(self, call: Any, lease: StreamLease, filling: asyncio.Task[None] | None = None) -> None:
        """
        Stand for a call.

        Args:
            call: It is under way.

            lease: Its permits.

            filling: What brings it the messages that its user writes.
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
        """Cancel the call; its permit says nothing about the service."""
        if not self._call.done() and _in_a_finaliser():
            self._given_up()
        return bool(self._call.cancel())

    def _given_up(self) -> None:
        self._lease.end("abandoned")
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:  # they are called at the end, although the stand-in is gone
            self._call.add_done_callback(callback)

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return bool(self._call.cancelled())

    def done(self) -> bool:
        """Return whether it is over."""
        return bool(self._call.done())

    def time_remaining(self) -> float | None:
        """Return the seconds until its deadline."""
        return cast("float | None", self._call.time_remaining())

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Have `callback(call)` called when it is over; the call does not live for that."""
        if self._call.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    # What waits for the end must not hold this object: so these are no coroutine functions.

    def initial_metadata(self) -> Any:
        """Return, awaited, the metadata that came first."""
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Any:
        """Return, awaited, the metadata that came last."""
        return self._call.trailing_metadata()

    def code(self) -> Any:
        """Return, awaited, the status."""
        return self._call.code()

    def details(self) -> Any:
        """Return, awaited, the status's text."""
        return self._call.details()

    def wait_for_connection(self) -> Any:
        """Return, awaited, when there is a connection."""
        return self._call.wait_for_connection()

    def __repr__(self) -> str:
        return repr(self._call)


class Messages(AsyncIterator[Any]):
    """Messages of a call; the first ends the latency, and may be awaited before the user reads it."""

    __slots__ = ("_lease", "_messages", "_seen")

    def __init__(self, call: Any, lease: StreamLease) -> None:
        """
        Read a call, from now on by iteration only.

        Args:
            call: It is under way.

            lease: Its permits.
        """
        self._messages = call.__aiter__()
        self._lease = lease
        self._seen: list[Any] = []

    async def look(self) -> None:
        """Wait for the first message, or the end without one; raises what the call ends with."""
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
    """What streams back."""

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
    """What is streamed there."""

    _call: Any

    def write(self, request: Any) -> Any:
        """Send a message, awaited."""
        return self._call.write(request)

    def done_writing(self) -> Any:
        """Say, awaited, that no message follows."""
        return self._call.done_writing()


class UnaryStream(StreamCall, _Answers, aio.UnaryStreamCall):  # type: ignore[misc]
    """A call that is answered by a stream."""


class StreamUnary(StreamCall, _Requests, aio.StreamUnaryCall):  # type: ignore[misc]
    """A call that streams, and is answered by one message."""

    def __await__(self) -> Generator[Any, Any, Any]:
        return cast("Generator[Any, Any, Any]", self._call.__await__())


class StreamStream(StreamCall, _Answers, _Requests, aio.StreamStreamCall):  # type: ignore[misc]
    """A call that streams both ways."""


def _tell(known: weakref.ref[StreamCall]) -> None:
    """Call the callbacks of the stand-in of a call that is over."""
    stands_for = known()
    if stands_for is not None:
        if stands_for._filling is not None:
            stands_for._filling.cancel()
        callbacks, stands_for._callbacks = stands_for._callbacks, []
        for callback in callbacks:
            callback(stands_for)


def _in_a_finaliser() -> bool:
    """Return True if grpcio cancels a call because it was collected: else its user does."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
