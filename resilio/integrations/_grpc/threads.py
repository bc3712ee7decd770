"""
A channel of grpcio's for threads to a pool: each call goes through the policy, each attempt to its endpoint's channel.

A thread cannot be interrupted: each attempt has the time that is left as its deadline. A stream that the caller drops
is cancelled when it is collected, which ends its permit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from resilio._failures.outcome import Outcome
from resilio._native.core import phase, seconds_left
from resilio._native.strategies import late_error
from resilio._support.client_target import StandIn, mark_as_heeding_time
from resilio.errors import ResilienceError
from resilio.integrations._grpc.calls import StreamLease
from resilio.integrations._grpc.channels import OPTIONS, Channels
from resilio.integrations._grpc.client import HOW, Guarded, Outgoing
from resilio.integrations._grpc.errors import in_terms, status_of
from resilio.integrations._grpc.exchange import Exchange, hand_over
from resilio.integrations._grpc.lib import Code, grpc
from resilio.integrations._shared.held_permits import settle
from resilio.integrations._shared.replay import Once
from resilio.integrations._shared.socket_time import end_late
from resilio.integrations._shared.upstream import attempt_number

if TYPE_CHECKING:
    from resilio._native.core import Held
    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["CHANNEL", "SyncPoolChannel", "connect", "hand_over_in_thread"]

CHANNEL = StandIn("grpc.Channel", heeds_time=True, hedge="Use `resilio.integrations.grpc.channel`, of grpc.aio")


def connect(endpoint: Endpoint) -> Any:
    """Open an insecure channel to an endpoint's target."""
    return grpc.insecure_channel(endpoint.target, options=OPTIONS)


def hand_over_in_thread(held: Held) -> None:
    """End the permit of an attempt that has raised, also one by a timeout or deadline; keep that of a stream."""
    request, error = getattr(held.function, "__self__", None), held.error
    if error is None or not isinstance(request, Exchange):
        hand_over(held)
        return
    permit = held.take()
    if not end_late(permit, error):
        settle(permit, error, request.blame(error))


class _Details:
    """The arguments of a call besides its message, as `grpc.ClientCallDetails` has them."""

    __slots__ = ("compression", "credentials", "metadata", "method", "timeout", "wait_for_ready")

    def __init__(
        self,
        method: str,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> None:
        self.method = method
        self.timeout = timeout
        self.metadata = metadata
        self.credentials = credentials
        self.wait_for_ready = wait_for_ready
        self.compression = compression


class _Call(Exchange):
    """One call, which may be made several times."""

    __slots__ = ("_details", "_made", "_owner", "_request")

    def __init__(self, owner: _Multicallable, details: _Details, request: Any) -> None:
        super().__init__()
        self._owner = owner
        self._details = details
        self._request = request
        self._made: list[tuple[Any, Any]] = []

    def run(self) -> Any:
        """Make the call through the policy, and return the answer that the policy chooses."""
        guarded, answer = self._owner.guarded, None
        shown = guarded.shown(Outgoing(self._details, self._request), streams=self._owner.streams)
        try:
            answer = guarded.way.send(self.attempt, shown)
        except ResilienceError as error:
            raise in_terms(error) from error.__cause__
        finally:
            self.finish(answer)
        return answer

    @mark_as_heeding_time
    def attempt(self, shown: Any) -> Any:
        phase("first_byte")
        if isinstance(shown, Once):
            shown.sent()
        left, details = seconds_left(), self._details
        timeout = details.timeout if left is None or details.timeout is None else min(left, details.timeout)
        options = {
            "timeout": left if details.timeout is None else timeout,
            "metadata": self._metadata(details.metadata),
            "credentials": details.credentials,
            "wait_for_ready": details.wait_for_ready,
            "compression": details.compression,
        }
        try:
            return self.make(self._owner.at_endpoint(), options)
        except grpc.RpcError as error:
            late: Any = late_error() if status_of(error) is Code.DEADLINE_EXCEEDED else None
            if late is None:
                raise
            raise in_terms(late) from error

    def make(self, multicallable: Any, options: dict[str, Any]) -> Any:
        """Make the call once, at an endpoint."""
        response, call = multicallable.with_call(self._request, **options)
        self._made.append((response, call))
        return response

    def call_of(self, response: Any) -> Any:
        """Return the call of a response; None of one from elsewhere, such as that of a fallback."""
        return next((call for answer, call in self._made if answer is response), None)

    def _metadata(self, given: Any) -> Any:
        name = self._owner.guarded.attempt
        number = None if name is None else attempt_number()
        return given if number is None else (*(given or ()), (name, number))

    def close(self, answer: Any) -> None:
        answer.cancel()

    def blame(self, error: BaseException) -> BaseException | Outcome:
        outcome = self._owner.guarded.outcome(error)
        return error if outcome is None else outcome


class _StreamedCall(_Call):
    """A call with a streamed answer, which continues after its attempt has ended."""

    __slots__ = ()

    def make(self, multicallable: Any, options: dict[str, Any]) -> Any:
        guarded = self._owner.guarded
        call = multicallable(self._request, **options)
        lease = StreamLease(f"a call of {guarded.way.policy.label}")
        stream = Stream(call, lease)
        if guarded.way.replays and not self._owner.streams:
            try:
                stream.look()
            except BaseException:  # also Ctrl-C, after which nothing would read it
                call.cancel()
                raise
        self.answered(stream, lease)
        over = _Over(call, lease, guarded)
        if not call.add_callback(over):
            over()
        return stream


class _Over:
    """Callback that ends a lease at the end of its call."""

    __slots__ = ("_call", "_guarded", "_lease")

    def __init__(self, call: Any, lease: StreamLease, guarded: Guarded) -> None:
        self._call = call
        self._lease = lease
        self._guarded = guarded

    def __call__(self) -> None:
        call: Any = self._call
        self._call = None  # the call refers to its callbacks
        if call.code() is Code.OK:
            self._lease.end("success")
        else:
            self._lease.end(HOW[self._guarded.outcome(call)], call)


class Stream:
    """A streamed answer: an iterator of its messages with the methods of `grpc.Call`."""

    def __init__(self, call: Any, lease: StreamLease) -> None:
        """
        Wrap a call.

        Args:
            call: The call, in flight.

            lease: Its permits.
        """
        self._call = call
        self._lease = lease
        self._seen: list[Any] = []

    def look(self) -> None:
        """Wait for the first message, or for the end without one; raise the call's error."""
        with suppress(StopIteration):
            self._seen.append(self._next())

    def _next(self) -> Any:
        message = next(self._call)
        if not self._lease.begun:
            self._lease.first()
        return message

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._seen.pop() if self._seen else self._next()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_call":
            raise AttributeError(name)
        return getattr(self._call, name)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None and not call.done():
            self._lease.end("abandoned")
            call.cancel()


class _Multicallable:
    """What makes the calls of one method."""

    def __init__(
        self, guarded: Guarded, channels: Channels, kind: str, method: str, functions: tuple[Any, ...]
    ) -> None:
        self.guarded = guarded
        self.streams = kind.startswith("stream")
        self._channels = channels
        self._kind = kind
        self._method = method
        self._functions = functions

    def at_endpoint(self) -> Any:
        """Return what makes calls of the method at the endpoint that the attempt has picked."""
        channel = self._channels.chosen(self.guarded.way.pipe)
        return getattr(channel, self._kind)(self._method, *self._functions)


class _OneAnswer(_Multicallable, grpc.UnaryUnaryMultiCallable, grpc.StreamUnaryMultiCallable):  # type: ignore[misc]
    """What makes calls with one message as the answer."""

    def __call__(self, request: Any, *options: Any, **named: Any) -> Any:
        """Make a call, and return its answer."""
        return _Call(self, _Details(self._method, *options, **named), request).run()

    def with_call(self, request: Any, *options: Any, **named: Any) -> Any:
        """Make a call, and return its answer and the call."""
        call = _Call(self, _Details(self._method, *options, **named), request)
        response = call.run()
        return response, call.call_of(response)

    def future(self, *_: Any, **__: Any) -> Any:
        """Raise: a policy waits and retries in the thread of its caller, and a future has none."""
        raise TypeError(
            f"{self._method}.future(...) would need a thread of its own for the policy's retries: call it in an "
            "executor, or use `resilio.integrations.grpc.channel`, of grpc.aio"
        )


class _ManyAnswers(_Multicallable, grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[misc]
    """What makes calls with a streamed answer."""

    def __call__(self, request: Any, *options: Any, **named: Any) -> Any:
        """Make a call, and return its messages."""
        return _StreamedCall(self, _Details(self._method, *options, **named), request).run()


class SyncPoolChannel(grpc.Channel):  # type: ignore[misc]
    """A channel to a pool, for threads; see :func:`resilio.integrations.grpc.sync_channel`, which makes one."""

    def __init__(self, guarded: Guarded, channels: Channels) -> None:
        """Prepare; nothing connects before the first call."""
        self._guarded = guarded
        self._channels = channels

    def _all(self) -> Iterator[Any]:
        return map(self._channels.of, self._channels.pool.endpoints)

    def subscribe(self, callback: Callable[[Any], object], try_to_connect: bool | None = False) -> None:
        """Have a function called with each state of each endpoint's channel."""
        for channel in self._all():
            channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[Any], object]) -> None:
        """End that."""
        for channel in self._channels:
            channel.unsubscribe(callback)

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with one message each way."""
        return _OneAnswer(
            self._guarded, self._channels, "unary_unary", method, (request_serializer, response_deserializer)
        )

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with a streamed answer."""
        return _ManyAnswers(
            self._guarded, self._channels, "unary_stream", method, (request_serializer, response_deserializer)
        )

    def stream_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with a streamed request."""
        return _OneAnswer(
            self._guarded, self._channels, "stream_unary", method, (request_serializer, response_deserializer)
        )

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with streams both ways."""
        return _ManyAnswers(
            self._guarded, self._channels, "stream_stream", method, (request_serializer, response_deserializer)
        )

    def close(self) -> None:
        """Close the channels that were opened here; those that came with an endpoint's `use` stay open."""
        for channel in self._channels.take():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
