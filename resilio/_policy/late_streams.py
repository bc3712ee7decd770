"""Streams whose generator is made at their first step: its function is given the endpoint that was chosen for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Protocol

__all__ = ["Late", "LateAsyncStream", "LateStream"]


class _Makes(Protocol):
    def with_endpoint(self) -> Any:
        """Return the generator for the endpoint that was chosen."""


class Late:
    """A generator that is made when its first item is asked for."""

    __slots__ = ("_generator", "_make")

    def __init__(self, make: _Makes) -> None:
        """Take the factory."""
        self._make = make
        self._generator: Any = None

    def _made(self) -> Any:
        if self._generator is None:
            self._generator = self._make.with_endpoint()
        return self._generator


class LateStream(Late, Generator[Any, Any, Any]):
    """The same of a generator function."""

    __slots__ = ()

    def send(self, value: Any, /) -> Any:
        """Resume it with a value."""
        return self._made().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in it."""
        return self._made().throw(*error)

    def close(self) -> None:
        """Close it, if it has begun."""
        if self._generator is not None:
            self._generator.close()


class LateAsyncStream(Late, AsyncGenerator[Any, Any]):
    """The same of an async generator function."""

    __slots__ = ()

    def asend(self, value: Any, /) -> Any:
        """Resume it with a value."""
        return self._made().asend(value)

    def __anext__(self) -> Any:
        """Return the awaitable of its next item."""
        return self._made().__anext__()

    def athrow(self, *error: Any) -> Any:
        """Raise an exception in it."""
        return self._made().athrow(*error)

    def aclose(self) -> Any:
        """Close it, if it has begun."""
        return _nothing() if self._generator is None else self._generator.aclose()


async def _nothing() -> None:
    """Do nothing: there is nothing to close."""
