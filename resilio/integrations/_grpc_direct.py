"""
The short way for gRPC calls with one message each way: admitted where they are made, and made without an interceptor.

grpcio gives each call of a channel with interceptors a task of its own, which costs more than all else a policy does.
A call that is admitted at once needs none: it is made as without a policy, and its permit ends when it is over. What
waits, is refused, is tried again, has a deadline around it or is watched by a guarded call goes the way of the
interceptors.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from resilio._native.core import Direct
from resilio.integrations._body import settle, untold
from resilio.integrations._grpc_begun import BegunCall
from resilio.integrations._grpc_calls import ended_with
from resilio.integrations._grpc_client import Guarded, Outgoing, UnaryUnaryGuard
from resilio.integrations._grpc_handed_over import Begun
from resilio.integrations._grpc_lib import aio
from resilio.integrations._way import one_of

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["DirectChannel"]


class DirectChannel(aio.Channel):  # type: ignore[misc]
    """A channel with interceptors, of which calls with one message each way pass them only where they must."""

    def __init__(self, channel: Any) -> None:
        """
        Stand for a channel.

        Args:
            channel: A `grpc.aio.Channel` with `interceptors(...)`.
        """
        self._intercepted = channel

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """Return what makes calls with one message each way."""
        made = self._intercepted.unary_unary(method, *args, **options)
        only = list(getattr(made, "_interceptors", None) or ())
        if len(only) != 1 or type(only[0]) is not UnaryUnaryGuard:
            return made
        bare = copy.copy(made)
        bare._interceptors = None
        guarded = only[0].guarded
        return (_Beginning if guarded.way.begin is None else _Direct)(method, made, bare, guarded)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls that are answered by a stream."""
        return self._intercepted.unary_stream(*args, **options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls that stream, and are answered by one message."""
        return self._intercepted.stream_unary(*args, **options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls that stream both ways."""
        return self._intercepted.stream_stream(*args, **options)

    def get_state(self, try_to_connect: bool = False) -> Any:
        """Return the state of the connection."""
        return self._intercepted.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """Wait until the connection has another state."""
        await self._intercepted.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until there is a connection."""
        await self._intercepted.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close the channel."""
        await self._intercepted.close(grace)

    async def __aenter__(self) -> Self:
        await self._intercepted.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> Any:
        return await self._intercepted.__aexit__(*raised)

    def __del__(self) -> None:
        """Have nothing to close: the channel that it stands for has."""


class _Direct(Direct, aio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """Makes calls of one method."""

    __slots__ = ("_intercepted",)

    def __init__(self, method: str, intercepted: Any, bare: Any, guarded: Guarded) -> None:
        self._intercepted = intercepted
        make = bare.__call__  # the method itself: calling the object would make a dict of the options
        begin: Any = guarded.way.begin
        gates = tuple(one_of(gate) for gate in guarded.way.policy.gates)
        super().__init__(method, begin, make, self._otherwise, partial(_end, guarded), untold, gates, Outgoing)

    def _otherwise(self, got: Any, request: Any, **options: Any) -> Any:
        """
        Make a call that was not admitted at once, or of which more has to be known.

        Args:
            got: The refusal, or what waits; None: it has not been asked for yet.

            request: The message.

            options: What the call is made with.
        """
        if got is None:
            return self._intercepted(request, **options)
        begun = Begun(request, got)
        call = self._intercepted(begun, **options)
        call.add_done_callback(begun.give_up)
        return call


class _Beginning(Direct, aio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """Makes calls of one method through strategies."""

    __slots__ = ("_guarded", "_intercepted", "_make")

    def __init__(self, method: str, intercepted: Any, bare: Any, guarded: Guarded) -> None:
        self._intercepted = intercepted
        self._guarded = guarded
        self._make = bare.__call__
        super().__init__(method, None, self._make, self._begin, None, untold, (), Outgoing)

    def _begin(self, asked: Outgoing | None, request: Any, **options: Any) -> Any:
        """
        Make a call.

        Args:
            asked: The call as key, cost and weight functions see it; None: more has to be known of what is around it.

            request: The message.

            options: What the call is made with.
        """
        if asked is None:
            return self._intercepted(request, **options)
        return BegunCall(self._guarded, self._make, self._intercepted, request, options).begin_as(asked)


def _end(guarded: Guarded, permit: Permit, call: Any) -> None:
    """
    End the permit of a call that has not ended well, or does not show it.

    Args:
        guarded: What its status means.

        permit: It was held for the call.

        call: The call, which is over.
    """
    if call.cancelled():
        permit.ignore()
    elif (error := ended_with(call)) is None:
        permit.success()
    else:
        settle(permit, error, guarded.blame(error))
