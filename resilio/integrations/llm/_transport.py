"""
The transport under an SDK's HTTP client: each request is a call of the policy, to the last byte of its answer.

The classes are made once for httpx and once for httpx2, whose classes share only their names. Middleware of an SDK is
done when the headers are here, before anything interesting; below the HTTP client each byte is seen, in all versions.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from resilio.integrations.llm import _orphans
from resilio.integrations.llm._exchange import Exchange
from resilio.integrations.llm._outside import raise_outside, surface, whole

if TYPE_CHECKING:
    from resilio.integrations.llm._guard_state import GuardState

__all__ = ["async_transport", "sync_transport"]


class _Body:
    """
    The body of an answer as the SDK reads it: pieces from the policy, their tail, then the bytes after the answer.

    It is iterated once, by one or several `for` loops. If it is dropped before its end, it is counted as abandoned, and
    its generator returns the permits.
    """

    def __init__(self, exchange: Exchange, items: Any, first: bytes | None) -> None:
        self._exchange = exchange
        self._incoming, exchange.incoming = exchange.incoming, None
        self._key = _orphans.keep(items) if first is not None else None
        self._first = first
        self._error: Exception | None = None
        self._over = False

    def _kept(self) -> bytes | None:
        """Return a piece that was read before."""
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        return None

    def _left(self) -> bytes | None:
        """Return the tail of the answer, after the end of the policy's call."""
        incoming = self._incoming
        piece, incoming.tail = incoming.tail, b""
        return piece or None

    def _ended(self, error: Exception | None) -> None:
        """Note the end of the policy's call."""
        if error is not None:
            self._exchange.details.ended_by(error)
        came_inside = isinstance(error, self._exchange.guard.sdk.APIStatusError)
        self._error = None if came_inside else error  # the SDK reads that error from the tail

    def __del__(self) -> None:
        if _orphans.close_later(getattr(self, "_key", None)):
            self._exchange.guard.left_behind()

    def _raise(self) -> None:
        self._over = self._over or not self._incoming.over
        error, self._error = self._error, None
        if error is not None:
            raise_outside(self._exchange, error)


class _AsyncBody(_Body):
    def __aiter__(self) -> _AsyncBody:
        return self

    async def __anext__(self) -> bytes:
        piece = self._kept()
        while piece is None:
            items = _orphans.get(self._key)
            piece = self._left() if items is None else await self._next(items)
            if piece is None and items is None:
                return await self._after()
        return piece

    async def _next(self, items: AsyncGenerator[bytes, None]) -> bytes | None:
        try:
            return await anext(items)
        except StopAsyncIteration:
            self._ended(None)
        except Exception as error:  # noqa: BLE001 - raised outside, after the pieces read before it
            self._ended(error)
        _orphans.release(self._key)
        return None

    async def _after(self) -> bytes:
        self._raise()
        if self._over:
            raise StopAsyncIteration
        try:
            return bytes(await anext(self._incoming.chunks()))
        except StopAsyncIteration:
            self._over = True
            await self._incoming.aclose()
            raise

    async def aclose(self) -> None:
        self._over = True
        items = _orphans.release(self._key)
        if items is not None:
            await items.aclose()
        if self._incoming.over:  # otherwise it was closed before the permit was returned
            await self._incoming.aclose()


class _SyncBody(_Body):
    def __iter__(self) -> _SyncBody:
        return self

    def __next__(self) -> bytes:
        piece = self._kept()
        while piece is None:
            items = _orphans.get(self._key)
            piece = self._left() if items is None else self._next(items)
            if piece is None and items is None:
                return self._after()
        return piece

    def _next(self, items: Generator[bytes, None, None]) -> bytes | None:
        try:
            return next(items)
        except StopIteration:
            self._ended(None)
        except Exception as error:  # noqa: BLE001 - raised outside, after the pieces read before it
            self._ended(error)
        _orphans.release(self._key)
        return None

    def _after(self) -> bytes:
        self._raise()
        if self._over:
            raise StopIteration
        try:
            return bytes(next(self._incoming.chunks()))
        except StopIteration:
            self._over = True
            self._incoming.close()
            raise

    def close(self) -> None:
        self._over = True
        items = _orphans.release(self._key)
        if items is not None:
            items.close()
        if self._incoming.over:
            self._incoming.close()


class _Transport:
    """Common part of both transports."""

    def __init__(self, guard: GuardState, inner: Any) -> None:
        self.guard = guard
        self.inner = inner


@functools.cache
def _classes(http: ModuleType) -> tuple[type[Any], type[Any]]:
    class AsyncBody(_AsyncBody, http.AsyncByteStream):  # type: ignore[misc, name-defined]
        pass

    class SyncBody(_SyncBody, http.SyncByteStream):  # type: ignore[misc, name-defined]
        pass

    class AsyncModelTransport(_Transport, http.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            exchange = Exchange(self.guard, self.inner, request)
            call = exchange.call()
            try:
                if call.whole:
                    response = await self.guard.answer(call)
                    return whole(exchange, response)
                items = self.guard.events(call)
                first = await anext(items, None)
            except Exception as error:  # noqa: BLE001 - each has its form outside
                return surface(exchange, error)
            incoming = exchange.incoming
            return incoming.answer(AsyncBody(exchange, items, first))

        async def aclose(self) -> None:
            await self.inner.aclose()

    class ModelTransport(_Transport, http.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            exchange = Exchange(self.guard, self.inner, request)
            call = exchange.call()
            try:
                if call.whole:
                    response = self.guard.answer(call)
                    return whole(exchange, response)
                items = self.guard.events(call)
                first = next(items, None)
            except Exception as error:  # noqa: BLE001 - each has its form outside
                return surface(exchange, error)
            incoming = exchange.incoming
            return incoming.answer(SyncBody(exchange, items, first))

        def close(self) -> None:
            self.inner.close()

    return ModelTransport, AsyncModelTransport


def sync_transport(http: ModuleType, guard: GuardState, inner: Any) -> Any:
    """
    Return a transport that sends the calls admitted by the policy through `inner`.

    Args:
        http: The module httpx or httpx2.

        guard: The guard of the client.

        inner: The client's own transport.
    """
    return _classes(http)[0](guard, inner)


def async_transport(http: ModuleType, guard: GuardState, inner: Any) -> Any:
    """Return an async transport that sends admitted calls through `inner`; see :func:`sync_transport`."""
    return _classes(http)[1](guard, inner)
