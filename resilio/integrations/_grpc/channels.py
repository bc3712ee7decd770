"""
A channel of grpc.aio to a pool: each call goes through the policy, and each attempt to the channel of its endpoint.

The caller's stubs are made with one channel, `PoolChannel`. A channel in front, which never connects, turns their calls
into those of interceptors; the interceptors make each attempt with the channel of the endpoint that it has picked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from resilio._options.validators import reject
from resilio._policies.pool.chosen import endpoint_of
from resilio.integrations._grpc.client import Guarded, guards
from resilio.integrations._grpc.lib import State, aio

if TYPE_CHECKING:
    from resilio._native.core import Pipeline
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policies.pool.policy import Pool

__all__ = ["Channels", "PoolChannel", "connect"]

OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)
"""Of the channels opened here: a server that is back is found within a second, and no attempt is made out of sight."""
_FRONT = "passthrough:///pool"
_BEST = (State.READY, State.CONNECTING, State.IDLE, State.TRANSIENT_FAILURE, State.SHUTDOWN)


def _best(states: Iterable[Any]) -> Any:
    """Return the best of the states of channels; of none: IDLE."""
    return min(states, key=_BEST.index, default=State.IDLE)


def connect(endpoint: Endpoint) -> Any:
    """Open an insecure channel to an endpoint's target."""
    return aio.insecure_channel(endpoint.target, options=OPTIONS)


class Channels:
    """The channels of a pool's endpoints, opened when first needed."""

    __slots__ = ("_connect", "_kind", "_open", "pool")

    def __init__(self, pool: Pool, connect: Callable[[Endpoint], Any], kind: Any) -> None:
        """
        Begin without a channel.

        Args:
            pool: The pool.

            connect: Opens the channel of an endpoint.

            kind: The class of its result.
        """
        self.pool: Pool = pool
        self._connect = connect
        self._kind = kind
        self._open: dict[Endpoint, Any] = {}

    def of(self, endpoint: Endpoint) -> Any:
        """Return the channel of an endpoint."""
        found = self._open.get(endpoint)
        return self._opened(endpoint) if found is None else found

    def _opened(self, endpoint: Endpoint) -> Any:
        made = endpoint.use if isinstance(endpoint.use, self._kind) else self._connect(endpoint)
        if not isinstance(made, self._kind):
            kind = f"a {self._kind.__module__.removesuffix('._base_channel')}.Channel"
            reject("connect", made, f"a function that returns {kind}; it was called for {endpoint.name!r}", TypeError)
        known = set(self.pool.endpoints)
        for gone in [one for one in list(self._open) if one not in known]:
            self._open.pop(gone, None)  # its calls keep it until they end
        return self._open.setdefault(endpoint, made)

    def chosen(self, pipe: Pipeline) -> Any:
        """Return the channel of the endpoint that a call of this pipeline has picked."""
        return self.of(endpoint_of(pipe) or self.pool._any())

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._open.values()))

    def take(self) -> list[Any]:
        """Return the channels that were opened here, and forget all."""
        found, self._open = self._open, {}
        return [channel for endpoint, channel in found.items() if channel is not endpoint.use]


class _Front:
    """A channel that only makes the caller's calls, with the functions that turn messages into bytes and back."""

    def __init__(self, guarded: Guarded, channels: Channels) -> None:
        self.channel: Any = aio.insecure_channel(_FRONT, interceptors=guards(guarded, self._begin))
        self._channels = channels
        self._guarded = guarded
        self._methods: dict[tuple[str, bytes], tuple[Any, ...]] = {}

    def has_room(self, kind: str, method: str, functions: tuple[Any, ...]) -> bool:
        """Return True unless the method is known with other functions."""
        return self._methods.setdefault((kind, method.encode()), functions) == functions

    async def _begin(self, kind: str, details: Any, request: Any) -> Any:
        """Begin an attempt at its endpoint, and return the call."""
        channel = self._channels.chosen(self._guarded.way.pipe)
        method = details.method if isinstance(details.method, bytes) else details.method.encode()
        make = getattr(channel, kind)(method.decode(), *self._methods[kind, method])
        call = make(
            request,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )
        call._resilio_channel = channel  # which ends its calls when it is collected
        return call


class PoolChannel(aio.Channel):  # type: ignore[misc]
    """A channel to a pool; see :func:`resilio.integrations.grpc.channel`, which makes one."""

    def __init__(self, guarded: Guarded, channels: Channels) -> None:
        """Prepare; nothing connects before the first call."""
        self._guarded = guarded
        self._channels = channels
        self._fronts = [_Front(guarded, channels)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close the channels that were opened here; those that came with an endpoint's `use` stay open."""
        fronts = [front.channel for front in self._fronts]
        await asyncio.gather(*(one.close(grace) for one in fronts))
        await asyncio.gather(*(one.close(grace) for one in self._channels.take()))

    def get_state(self, try_to_connect: bool = False) -> Any:
        """Return the best state of the endpoints' channels."""
        if try_to_connect:
            self._open_all()
        return _best([one.get_state(try_to_connect) for one in self._channels])

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """Wait until the best state of the endpoints' channels is another."""
        self._open_all()
        while True:
            seen = [(one, one.get_state()) for one in self._channels]
            if _best([state for _, state in seen]) is not last_observed_state:
                return
            # from what was seen: a channel's state may be another one by now
            waits = [asyncio.ensure_future(one.wait_for_state_change(state)) for one, state in seen]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _open_all(self) -> None:
        """Open a channel to each endpoint, which does not connect yet."""
        for endpoint in self._channels.pool.endpoints:
            self._channels.of(endpoint)

    async def channel_ready(self) -> None:
        """Wait until one of the endpoints' channels is ready."""
        while (state := self.get_state(try_to_connect=True)) is not State.READY:
            await self.wait_for_state_change(state)

    def _multicallable(self, kind: str, method: str, functions: tuple[Any, ...]) -> Any:
        front = next((one for one in self._fronts if one.has_room(kind, method, functions)), None)
        if front is None:  # two stubs of one method with unlike messages
            front = _Front(self._guarded, self._channels)
            self._fronts.append(front)
            front.has_room(kind, method, functions)
        return getattr(front.channel, kind)(method, *functions)

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with one message each way."""
        return self._multicallable("unary_unary", method, (request_serializer, response_deserializer))

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with a streamed answer."""
        return self._multicallable("unary_stream", method, (request_serializer, response_deserializer))

    def stream_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with a streamed request."""
        return self._multicallable("stream_unary", method, (request_serializer, response_deserializer))

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, *_: Any, **__: Any
    ) -> Any:
        """Return what makes calls with streams both ways."""
        return self._multicallable("stream_stream", method, (request_serializer, response_deserializer))
