"""Tells the ledger how long connecting takes, without a cost for requests that find a connection open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from resilio._native.core import phase

__all__ = ["time_connects"]


def time_connects(transport: Any) -> None:
    """
    Have what a transport's pool does to open a connection count as `connect`, TLS included; of another kind, nothing.

    Args:
        transport: One of httpx or httpx2, as it comes.
    """
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is None or isinstance(backend, _Backend):
        return
    pool._network_backend = (_AsyncBackend if hasattr(transport, "handle_async_request") else _Backend)(backend)


class _Backend:
    """The backend inside, with its ways to connect timed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _timed(self._inner.connect_tcp, *args, **options)

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _timed(self._inner.connect_unix_socket, *args, **options)


class _AsyncBackend(_Backend):
    """The same for async ones."""

    def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _atimed(self._inner.connect_tcp, *args, **options)

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _atimed(self._inner.connect_unix_socket, *args, **options)


def _timed(connect: Callable[..., Any], *args: Any, **options: Any) -> Any:
    phase("connect")
    try:
        return _with_tls(_timed, connect(*args, **options))
    finally:
        phase("first_byte")


async def _atimed(connect: Callable[..., Any], *args: Any, **options: Any) -> Any:
    phase("connect")
    try:
        return _with_tls(_atimed, await connect(*args, **options))
    finally:
        phase("first_byte")


def _with_tls(timed: Callable[..., Any], stream: Any) -> Any:
    start = getattr(stream, "start_tls", None)
    with suppress(AttributeError):  # one that lets nobody say
        stream.start_tls = partial(timed, start)
    return stream
