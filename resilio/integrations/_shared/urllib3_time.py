"""
Connections of urllib3 that wait no longer than the time left; see `_socket_time`.

Pools get their classes by documented means of urllib3: `pool_classes_by_scheme` and `ConnectionCls`.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any

from resilio._native.core import seconds_left
from resilio._strategies.time_limit import late_error
from resilio.integrations._shared.socket_time import left_of

__all__ = ["narrowed", "use_timed_connections"]


class _TimedReader(io.RawIOBase):
    """Reads a socket; each wait takes no longer than the time left."""

    def __init__(self, sock: _TimedSocket) -> None:
        self._timed = sock
        self._raw: Any = sock.inner.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def readinto(self, buffer: Any) -> int | None:
        self._timed.prepare()
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """A connected socket whose waits take no longer than the time left."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._timeout: float | None = inner.gettimeout()
        self._narrowed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def settimeout(self, seconds: float | None) -> None:
        """Set the client's own timeout."""
        self._timeout = seconds
        self.inner.settimeout(seconds)

    def prepare(self) -> None:
        """Bound the next wait by the time left."""
        left = seconds_left()
        if left is None and not self._narrowed:
            return
        if left == 0.0:  # also if data is always ready, so that no wait times out
            raise TimeoutError("no time is left")
        self._narrowed = left is not None
        self.inner.settimeout(left_of(self._timeout))

    def sendall(self, data: Any, *flags: int) -> None:
        """Send, as the socket inside."""
        self.prepare()
        self.inner.sendall(data, *flags)

    def recv_into(self, *args: Any) -> int:
        """Receive, as the socket inside."""
        self.prepare()
        return int(self.inner.recv_into(*args))

    def makefile(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        """Return a file, as the socket inside; the file for answers waits no longer than the time left."""
        if mode != "rb" or args or options:
            return self.inner.makefile(mode, *args, **options)
        return io.BufferedReader(_TimedReader(self))


class _TimedConnection:
    """Mixin for urllib3's connections that bounds their waits."""

    timeout: Any
    sock: Any

    def connect(self) -> None:
        """Connect, TLS included."""
        given = self.timeout
        if seconds_left() is not None:
            if late_error() is not None:
                raise TimeoutError("no time is left")
            self.timeout = left_of(given if isinstance(given, (int, float)) else None)
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self.timeout = given
        if self.sock is not None:
            self.sock = _TimedSocket(self.sock)


@cache
def _timed_connection(cls: Any) -> Any:
    return type(cls.__name__, (_TimedConnection, cls), {"__module__": cls.__module__})


@cache
def _timed_pool(cls: Any) -> Any:
    connection = getattr(cls, "ConnectionCls", None)
    if not isinstance(connection, type) or not hasattr(connection, "connect"):
        return cls
    members = {"__module__": cls.__module__, "ConnectionCls": _timed_connection(connection)}
    return type(cls.__name__, (cls,), members)


def use_timed_connections(manager: Any) -> bool:
    """
    Make a pool manager create connections that wait no longer than the time left. Return False if it cannot.

    Args:
        manager: A pool manager of urllib3.
    """
    classes = getattr(manager, "pool_classes_by_scheme", None)
    if not isinstance(classes, dict):
        return False
    manager.pool_classes_by_scheme = {scheme: _timed_pool(cls) for scheme, cls in classes.items()}
    return True


def narrowed(timeout: Any, kind: Any) -> Any:
    """
    Return a timeout of requests, bounded by the time left.

    Args:
        timeout: Seconds, a pair of seconds for connecting and reading, a timeout of urllib3, or None.

        kind: The class of urllib3's timeouts.
    """
    if seconds_left() is None:
        return timeout
    if isinstance(timeout, kind):
        connect, read = timeout.connect_timeout, timeout.read_timeout
    else:
        connect, read = timeout if isinstance(timeout, tuple) and len(timeout) == 2 else (timeout, timeout)
    return kind(connect=_left(connect), read=_left(read))


def _left(seconds: Any) -> Any:
    return left_of(seconds if isinstance(seconds, (int, float)) else None)
