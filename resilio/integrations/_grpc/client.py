"""Client interceptors: each call of a channel passes a policy, whose permits last until the call's end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from resilio._failures.outcome import Outcome
from resilio._native import core
from resilio._native.core import seconds_left
from resilio.errors import ResilienceError
from resilio.integrations._grpc.calls import (
    Messages,
    StreamLease,
    StreamStream,
    StreamUnary,
    UnaryStream,
    ended_with,
)
from resilio.integrations._grpc.errors import in_terms, is_refused, status_of
from resilio.integrations._grpc.exchange import Exchange
from resilio.integrations._grpc.lib import Code, aio
from resilio.integrations._grpc.relay import detour
from resilio.integrations._shared.guarded_call import GuardedCall
from resilio.integrations._shared.replay import Once, Spent
from resilio.integrations._shared.upstream import attempt_number

__all__ = [
    "HOW",
    "Guarded",
    "Outgoing",
    "StreamStreamGuard",
    "StreamUnaryGuard",
    "UnaryStreamGuard",
    "UnaryUnaryGuard",
    "guards",
]

Continuation = Callable[[Any, Any], Any]
_phase = core.phase


class Outgoing:
    """
    A call as key, cost and weight functions see it.

    Attributes:
        method: Full name of the method, "/package.Service/Method".

        request: The message, or the iterator of streamed messages.

        details: The `grpc.aio.ClientCallDetails`.
    """

    __slots__ = ("details", "method", "request")

    def __init__(self, details: Any, request: Any) -> None:
        """Describe a call."""
        method = details.method
        self.method: str = method.decode() if isinstance(method, bytes) else method
        self.request: Any = request
        self.details: Any = details


class Guarded:
    """Shared state of the interceptors of one channel: the policy and the meaning of statuses."""

    __slots__ = ("attempt", "failing", "idempotent", "way")

    def __init__(
        self,
        way: GuardedCall,
        failing: frozenset[Any] | None,
        idempotent: Callable[[Any], object] | bool,
        attempt: str | None = None,
    ) -> None:
        """Keep the checked options; see :func:`resilio.integrations.grpc.interceptors`."""
        self.way: GuardedCall = way
        self.failing: frozenset[Any] | None = failing
        self.idempotent: Callable[[Any], object] | bool = idempotent
        self.attempt: str | None = attempt

    def outcome(self, error: BaseException) -> Outcome | None:
        """Return the outcome of an error; None: the policy decides."""
        status = status_of(error)
        if status is None:
            return Outcome.IGNORED if isinstance(error, aio.UsageError) else None  # for example of a closed channel
        if status is Code.CANCELLED:
            return Outcome.IGNORED
        if self.failing is None:
            return None
        if is_refused(error) and (status is not Code.RESOURCE_EXHAUSTED or status not in self.failing):
            return Outcome.REFUSED
        return Outcome.FAILURE if status in self.failing else Outcome.SUCCESS

    def shown(self, call: Outgoing, *, streams: bool) -> Any:
        """Return the call as strategies see it; a call that is not replayable is used up by its first attempt."""
        way, safe = self.way, self.idempotent
        if not way.replays or (not streams and (safe is True or (safe and safe(call)))):
            return call
        return Spent(call) if way.hedged else Once(call)


class _Call(Exchange):
    """One call, which may be made several times."""

    __slots__ = ("_continuation", "_details", "_guarded", "_out_of_time", "_request")

    def __init__(self, guarded: Guarded, request: Any, continuation: Continuation, details: Any) -> None:
        super().__init__()
        self._guarded = guarded
        self._continuation = continuation
        self._details = details
        self._request = request
        self._out_of_time = False

    def begin(self, shown: Any, request: Any) -> Awaitable[Any]:
        """Return an awaitable of the call, made by the interceptor's continuation."""
        _phase("first_byte")
        details = self._details
        limit, metadata = self._limit(details.timeout), self._metadata(details.metadata)
        if limit is not details.timeout or metadata is not details.metadata:
            details = aio.ClientCallDetails(
                details.method, limit, metadata, details.credentials, details.wait_for_ready
            )
        if isinstance(shown, Once):
            shown.sent()
        made: Awaitable[Any] = self._continuation(details, request)
        return made

    def _metadata(self, given: Any) -> Any:
        """Return the metadata of an attempt, with its number if the user wants it sent."""
        number = None if self._guarded.attempt is None else attempt_number()
        return given if number is None else aio.Metadata(*(given or ()), (self._guarded.attempt, number))

    def _limit(self, timeout: float | None) -> float | None:
        """Return the timeout of an attempt in seconds, bounded by the ambient deadline."""
        left = seconds_left()
        if left is None or (timeout is not None and left >= timeout):
            return timeout
        self._out_of_time = True
        return left

    def blame(self, error: BaseException) -> BaseException | Outcome:
        if self._out_of_time and status_of(error) is Code.DEADLINE_EXCEEDED:
            return asyncio.CancelledError()  # gates judge it as one by the ambient deadline, if that has passed
        outcome = self._guarded.outcome(error)
        return error if outcome is None else outcome

    def translated(self, error: ResilienceError) -> BaseException:
        translated: BaseException = in_terms(error)
        return translated


class _Unary(_Call):
    """A call with one message each way, which ends with its attempt."""

    __slots__ = ("_answers",)

    def __init__(self, guarded: Guarded, request: Any, continuation: Continuation, details: Any) -> None:
        super().__init__(guarded, request, continuation, details)
        self._answers: list[tuple[Any, Any]] = []

    async def attempt(self, shown: Any) -> Any:
        call = await self.begin(shown, self._request)
        response = await call
        self._answers.append((response, call))
        return response

    def close(self, answer: Any) -> None:
        """Do nothing: the call has ended."""

    def call_of(self, response: Any) -> Any:
        """Return the call of a response; any other response, such as that of a fallback, is returned itself."""
        for answer, call in self._answers:
            if answer is response:
                return call
        return response


class _Stream(_Call):
    """A call with a stream, which continues after its attempt has ended."""

    __slots__ = ("_kind", "_waits")

    def __init__(
        self,
        guarded: Guarded,
        continuation: Continuation,
        details: Any,
        request: Any,
        kind: Any,
        *,
        waits: bool,
    ) -> None:
        super().__init__(guarded, request, continuation, details)
        self._kind = kind
        self._waits = waits

    async def attempt(self, request: Any) -> Any:
        requests, filling = detour(self._request)
        call = await self.begin(request, requests)
        lease = StreamLease(f"a call of {self._guarded.way.policy.label}")
        messages = Messages(call, lease) if self._waits else None
        if messages is not None:
            try:
                await messages.look()
            except BaseException:  # also a cancellation, which has to reach the server
                call.cancel()
                raise
        answer = self._kind(call, lease, filling)
        if messages is not None:
            answer.messages = messages
        self.answered(answer, lease)
        call.add_done_callback(_Over(lease, self._guarded, self._out_of_time))
        return answer

    def close(self, answer: Any) -> None:
        answer.cancel()


OF_A_WRITE = "Internal error from Core"
"""The details of the status that grpcio gives a call whose message could not be written."""
LOOKS = (0.001, 0.256)
"""
Seconds between two polls of that status, at first and at last.

1 to 3 in 100 such calls had it first; the server's own status came up to 14 ms later.
"""


class _Over:
    """Callback that ends a lease at the end of its call, without a reference to the caller's proxy."""

    __slots__ = ("_guarded", "_lease", "_out_of_time")

    def __init__(self, lease: StreamLease, guarded: Guarded, out_of_time: bool) -> None:
        self._lease = lease
        self._guarded = guarded
        self._out_of_time = out_of_time

    def __call__(self, call: Any, again: float = LOOKS[0]) -> None:
        """
        End the lease.

        If a server ends a call while its client writes, grpcio reports the failed write first. The server's status
        comes some milliseconds later, without a callback. So it is polled, less and less often.

        Args:
            call: The ended call.

            again: Seconds until the next poll of its status, if that may change.
        """
        error = ended_with(call)
        if error is None:
            self._lease.end("success")
            return
        if again <= LOOKS[1] and error.details() == OF_A_WRITE and error.code() is Code.INTERNAL:
            asyncio.get_running_loop().call_later(again, self, call, 2 * again)
            return
        outcome = self._guarded.outcome(error)
        if call.cancelled() or (self._out_of_time and error.code() is Code.DEADLINE_EXCEEDED):
            outcome = Outcome.IGNORED
        self._lease.end(HOW[outcome], error)


HOW = {
    None: "failed",
    Outcome.FAILURE: "failure",
    Outcome.IGNORED: "ignore",
    Outcome.REFUSED: "refused",
    Outcome.SUCCESS: "unserved",
}
"""How a lease ends, by the outcome of a call whose status is not OK."""


class _Guard:
    """Common part of all client interceptors."""

    _calls: str

    def __init__(self, guarded: Guarded, begin: Callable[[str, Any, Any], Any] | None = None) -> None:
        """
        Guard calls of one kind.

        Args:
            guarded: The policy.

            begin: Begins an attempt, in place of an interceptor's continuation.
        """
        self.guarded = guarded
        self._begin = None if begin is None else partial(begin, self._calls)

    async def _stream(self, continuation: Continuation, details: Any, request: Any, kind: Any, *, streams: bool) -> Any:
        guarded, continuation = self.guarded, self._begin or continuation
        waits = guarded.way.replays and not streams
        exchange = _Stream(guarded, continuation, details, request, kind, waits=waits)
        return await exchange.through(guarded.way, guarded.shown(Outgoing(details, request), streams=streams))


class UnaryUnaryGuard(_Guard, aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Guards calls with one message each way."""

    _calls = "unary_unary"

    async def intercept_unary_unary(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        """Make the call through the policy."""
        guarded = self.guarded
        exchange = _Unary(guarded, request, self._begin or continuation, client_call_details)
        outgoing = Outgoing(client_call_details, request)
        response = await exchange.through(guarded.way, guarded.shown(outgoing, streams=False))
        return exchange.call_of(response)


class UnaryStreamGuard(_Guard, aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Guards calls with a streamed answer."""

    _calls = "unary_stream"

    async def intercept_unary_stream(self, continuation: Continuation, client_call_details: Any, request: Any) -> Any:
        """Make the call through the policy."""
        return await self._stream(continuation, client_call_details, request, UnaryStream, streams=False)


class StreamUnaryGuard(_Guard, aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    """Guards calls with a streamed request and one message as the answer."""

    _calls = "stream_unary"

    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make the call through the policy."""
        return await self._stream(continuation, client_call_details, request_iterator, StreamUnary, streams=True)


class StreamStreamGuard(_Guard, aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    """Guards calls with a streamed request and a streamed answer."""

    _calls = "stream_stream"

    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Make the call through the policy."""
        return await self._stream(continuation, client_call_details, request_iterator, StreamStream, streams=True)


def guards(guarded: Guarded, begin: Callable[[str, Any, Any], Any] | None = None) -> list[Any]:
    """
    Return interceptors for all kinds of calls.

    Args:
        guarded: The policy.

        begin: Begins an attempt of a kind of call, like "unary_unary"; None: as grpcio does.
    """
    kinds = (UnaryUnaryGuard, UnaryStreamGuard, StreamUnaryGuard, StreamStreamGuard)
    return [kind(guarded, begin) for kind in kinds]
