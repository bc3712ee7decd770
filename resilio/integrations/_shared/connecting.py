"""
The network below a client's pool: connecting is recorded in the ledger, and threads wait no longer than the time left.

Neither has a cost if a connection is open and no time limit is in force. The client's trace extension would: it calls
back ten times a request, connected or not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from resilio._native.core import phase
from resilio.integrations._shared.socket_time import Translate, wait

__all__ = ["time_connects"]


def _as_it_is(error: Exception) -> Exception:
    return error


def time_connects(transport: Any, translate: Translate = _as_it_is) -> None:
    """
    Record the time that a transport's pool takes to open connections, TLS included, as `connect`.

    In a sync transport, each wait of a socket is also bounded by the time left. Custom transports are not changed.

    Args:
        transport: A transport of httpx or httpx2.

        translate: Translates an error of resilio into the client's terms.
    """
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is None or isinstance(backend, _Wrapped):
        return
    is_async = hasattr(transport, "handle_async_request")
    pool._network_backend = _AsyncBackend(backend) if is_async else _Backend(backend, translate)


class _Wrapped:
    """Proxy that overrides some methods of the object inside."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Heeding(_Wrapped):
    """Proxy whose waits take no longer than the time left."""

    def __init__(self, inner: Any, translate: Translate) -> None:
        super().__init__(inner)
        self._translate = translate

    def _connect(self, connect: Callable[..., Any], *args: Any, timeout: float | None = None, **options: Any) -> Any:
        phase("connect")
        try:
            return _Stream(wait(connect, timeout, self._translate, *args, **options), self._translate)
        finally:
            phase("first_byte")


class _Backend(_Heeding):
    """Proxy of a network backend that times its connects."""

    def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return self._connect(self._inner.connect_tcp, *args, **options)

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return self._connect(self._inner.connect_unix_socket, *args, **options)


class _Stream(_Heeding):
    """A connection."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read, as the connection inside."""
        part: bytes = wait(self._inner.read, timeout, self._translate, max_bytes)
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, as the connection inside."""
        wait(self._inner.write, timeout, self._translate, buffer)

    def start_tls(self, *args: Any, **options: Any) -> Any:
        """Begin TLS, as the connection inside; close it on failure, also if no time is left."""
        try:
            return self._connect(self._inner.start_tls, *args, **options)
        except BaseException:
            self._inner.close()
            raise


class _AsyncBackend(_Wrapped):
    """Proxy of an async backend that times its connects; its waits can be interrupted."""

    def connect_tcp(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _atimed(self._inner.connect_tcp, *args, **options)

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        """Connect, as the backend inside."""
        return _atimed(self._inner.connect_unix_socket, *args, **options)


async def _atimed(connect: Callable[..., Any], *args: Any, **options: Any) -> Any:
    phase("connect")
    try:
        return _with_tls(await connect(*args, **options))
    finally:
        phase("first_byte")


def _with_tls(stream: Any) -> Any:
    start: Any = getattr(stream, "start_tls", None)
    with suppress(AttributeError):  # a class with slots
        stream.start_tls = partial(_atimed, start)
    return stream
