"""
Fallbacks of streams: generators whose first item may come from a fallback.

After the first item there is no fallback, because the consumer has seen it. The result of a target or a handler, or the
default, is iterated over instead.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from resilio._native.strategies import FallbackGate, Passage
from resilio._policy.streams import Custody, Inside, drive, drive_async
from resilio._strategies.streams import AsyncChosen, Chosen, Held

__all__ = ["aredirected", "redirected"]


def redirected(gate: FallbackGate, make: Inside) -> Generator[Any, Any, Any]:
    """
    Return a stream that is replaced by a fallback if it fails before its first item.

    Args:
        gate: The fallback.

        make: Makes the stream inside.
    """
    return drive(_Redirected(gate, make), Held((gate,)), make.maker)


def aredirected(gate: FallbackGate, make: Inside) -> AsyncGenerator[Any, Any]:
    """Return an async stream with a fallback; see :func:`redirected`."""
    return drive_async(_AsyncRedirected(gate, make), Held((gate,)), make.maker)


class _Choice:
    """Common part of both kinds: the replacement of a failed stream."""

    __slots__ = ("_inner", "_make", "_passage")

    def __init__(self, gate: FallbackGate, make: Inside, *, is_async: bool) -> None:
        self._make = make
        self._passage = Passage(gate, is_async, make.one_shot(gate, gate.replayable))
        self._inner: Any = None

    def _next(self, error: Exception) -> Any:
        """Return the replacement, an iterable or an awaitable of one; raise the stream's error if there is none."""
        while True:
            function, argument, value = self._passage.failed(error)
            self._make.maker.at("fallback")
            if function is None:
                return value
            try:
                if argument is not None:
                    return function(argument)
                self._make.maker.calls += 1
                return function(*self._make.args, **self._make.kwargs)
            except Exception as failure:  # noqa: BLE001 - the fallback decides
                error = failure


class _Redirected(_Choice, Chosen):
    """The stream inside, or its replacement."""

    __slots__ = ()

    def __init__(self, gate: FallbackGate, make: Inside) -> None:
        super().__init__(gate, make, is_async=False)

    def _begin(self) -> Any:
        inner = self._make()
        while True:
            try:
                item = next(inner)
            except StopIteration:
                self._passage.succeeded()
                raise
            except Exception as error:  # noqa: BLE001 - the fallback decides
                inner = _items(self._next(error))
            else:
                self._passage.succeeded()
                self._inner = inner
                return item


class _AsyncRedirected(_Choice, AsyncChosen):
    """The async stream inside, or its replacement."""

    __slots__ = ()

    def __init__(self, gate: FallbackGate, make: Inside) -> None:
        super().__init__(gate, make, is_async=True)

    async def begin(self, custody: Custody) -> Any:
        """Return the first item; `custody` ensures that the right owner closes the stream."""
        inner = self._make()
        while True:
            try:
                item = await custody.first(inner)
            except StopAsyncIteration:
                self._passage.succeeded()
                raise
            except Exception as error:  # noqa: BLE001 - the fallback decides
                inner = _async_items(self._next(error))
            else:
                self._passage.succeeded()
                self._inner = inner
                return item


def _items(source: Iterable[Any]) -> Any:
    return source if isinstance(source, Generator) else _plain(source)


def _plain(source: Iterable[Any]) -> Generator[Any, Any, Any]:
    yield from source


def _async_items(source: Any) -> Any:
    return source if isinstance(source, AsyncGenerator) else _later(source)


async def _later(source: Any) -> AsyncGenerator[Any, Any]:
    found = await source if inspect.isawaitable(source) else source
    if isinstance(found, AsyncIterable):
        async for item in found:
            yield item
    else:
        for item in found:
            yield item
