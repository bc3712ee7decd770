"""
The short way for gRPC calls with one message each way: admitted where they are made, and made without an interceptor.

grpcio gives each call of a channel with interceptors a task of its own, which costs more than all else a policy does.
A call that is admitted at once needs none: it is made as without a policy, and its permit ends when it is over. What
waits, is refused, is tried again or is watched by a guarded call goes the way of the interceptors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Self, cast

from resilio._deadline import remaining
from resilio._native import core
from resilio._native.core import Permit
from resilio.integrations._body import settle, untold
from resilio.integrations._grpc_calls import ended_with
from resilio.integrations._grpc_client import Begun, Guarded, Outgoing, UnaryUnaryGuard
from resilio.integrations._grpc_lib import aio
from resilio.integrations._way import one_of

__all__ = ["DirectChannel"]

_current, _deadline = core.current, core.ambient_deadline


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
        if len(only) != 1 or type(only[0]) is not UnaryUnaryGuard or only[0].guarded.way.begin is None:
            return made
        bare = copy.copy(made)
        bare._interceptors = None
        return _Direct(method, made, bare, only[0].guarded)

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


class _Direct(aio.UnaryUnaryMultiCallable):  # type: ignore[misc]
    """Makes calls of one method."""

    def __init__(self, method: str, intercepted: Any, bare: Any, guarded: Guarded) -> None:
        self._method = method
        self._intercepted = intercepted
        self._make = bare.__call__  # the method itself: calling the object would make a dict of the options
        self._guarded = guarded
        self._gates = tuple(one_of(gate) for gate in guarded.way.policy.gates)
        begin: Any = guarded.way.begin
        self._begin: Callable[[Any], Any] = begin

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        """Make a call: as grpcio makes it, if it is admitted at once."""
        got: Any = None
        if _current() is None and not untold():
            for gate in self._gates:
                if gate.judge_value is not None:
                    break  # it wants to see the answer, which the call's end does not show
            else:
                sketch = _new(_Sketch)
                sketch.method, sketch.request = self._method, request
                sketch._rest = (timeout, metadata, credentials, wait_for_ready)
                try:
                    got = self._begin(sketch)
                except Exception as refused:  # noqa: BLE001 - it belongs to who awaits the call
                    got = refused.with_traceback(None)
        if type(got) is not Permit:
            begun = None if got is None else Begun(request, got)
            call = self._intercepted(
                begun or request,
                timeout=timeout,
                metadata=metadata,
                credentials=credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
            if begun is not None:
                call.add_done_callback(begun.give_up)
            return call
        context = None
        if _deadline() is not None and ((left := remaining()) is not None) and (timeout is None or left < timeout):
            timeout, context = left, copy_context()
        try:
            call = self._make(
                request,
                timeout=timeout,
                metadata=metadata,
                credentials=credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
        except BaseException:
            got.ignore()  # it could not be made
            raise
        call.add_done_callback(partial(_end, got, self._guarded, context))
        return call


class _Sketch(Outgoing):
    """What an :class:`Outgoing` shows, of a call whose details are made if somebody asks."""

    __slots__ = ("_rest",)

    _rest: tuple[Any, ...]

    @property
    def details(self) -> Any:
        return aio.ClientCallDetails(self.method.encode(), *self._rest)


_new = cast("Callable[[type[_Sketch]], Any]", object.__new__)  # an __init__ would cost as much as the admission


def _end(permit: Permit, guarded: Guarded, context: Context | None, call: Any) -> None:
    """
    End the permit of a call that is over.

    Args:
        permit: It was held for the call.

        guarded: What its status means.

        context: That of the deadline which gave the call its time; None: it had all the time that it asked for.

        call: The call.
    """
    inner = getattr(call, "_cython_call", None)  # which tells at once what else takes a coroutine
    if inner is not None and inner.is_ok():
        permit.success()
    elif call.cancelled():
        permit.ignore()
    elif (error := ended_with(call)) is None:
        permit.success()
    elif context is not None:
        context.run(settle, permit, error, guarded.blame(error, out_of_time=True))
    else:
        settle(permit, error, guarded.blame(error))
