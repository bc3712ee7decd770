"""
Connections of urllib3 that wait no longer than the time left; see `socket_time.py`.

Pools and connections are made by documented means of urllib3, `pool_classes_by_scheme` and `ConnectionCls`, and keep
their classes: code of urllib3 that the interpreter has specialised for one class is slow for another. A connected
socket gets its class by exchange, since the connection has made it. One that keeps its class waits within the timeouts
of its connection, each of which is bounded by the time left when it is set.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any
from weakref import ref

from resilio._events import log
from resilio._native.core import seconds_left
from resilio._native.strategies import late_error
from resilio.integrations._shared.socket_time import left_of

__all__ = ["narrowed", "use_timed_connections"]


@cache
def _timed_socket(kind: Any) -> Any:
    """Return a subclass of a socket's class, each of whose waits takes no longer than the time left."""
    members = {"__module__": kind.__module__, "__slots__": ()}
    waits = {name: _in_time(kind, name) for name in ("sendall", "recv_into")}
    return type(kind.__name__, (kind,), {**members, **waits})


def _in_time(kind: Any, name: str) -> Any:
    """Return a method of a socket's subclass that waits as `kind` does, for no longer than the time left."""

    def wait(self: Any, *args: Any) -> Any:
        call, left = getattr(kind, name), seconds_left()
        if left is None:
            return call(self, *args)
        if left == 0.0:  # also if data is always ready, so that no wait times out
            raise TimeoutError("no time is left")
        given = self.gettimeout()
        if given is not None and given <= left:
            return call(self, *args)
        self.settimeout(left)
        try:
            return call(self, *args)
        finally:
            self.settimeout(given)

    return wait


def _bounds_each_wait(sock: Any) -> bool:
    """Exchange the class of a connected socket. Return False if it keeps its class, which is logged once a class."""
    kind: Any = type(sock)
    try:
        sock.__class__ = _timed_socket(kind)
    except Exception:  # noqa: BLE001 - of a class that the library does not know; the request goes on without
        _warn_once(kind)
        return False
    return True


@cache
def _warn_once(kind: Any) -> None:
    text = (
        "requests: sockets of %s.%s keep their class, so resilio cannot bound each of their waits by the time left. "
        "A timeout or a deadline bounds each wait by the time that was left when the request or its answer began: one "
        "that trickles in may take longer. Use sockets whose class can be exchanged, like those of the standard library"
    )
    log.say(log.WARNING, text, kind.__module__, kind.__qualname__)


def _within(known: ref[Any], name: str, *args: Any, **options: Any) -> Any:
    """Call a method that sets the connection's timeout on its socket, bounded by the time left."""
    connection: Any = known()
    call, given = getattr(type(connection), name), connection.timeout
    if seconds_left() is not None:
        connection.timeout = left_of(given if isinstance(given, (int, float)) else None)
    try:
        return call(connection, *args, **options)
    finally:
        connection.timeout = given


def _connect(known: ref[Any]) -> None:
    """Connect, TLS included, for no longer than the time left."""
    if seconds_left() is not None and late_error() is not None:
        raise TimeoutError("no time is left")
    _within(known, "connect")
    connection: Any = known()
    if connection.sock is not None and not _bounds_each_wait(connection.sock):
        # From now on these bound its waits. The socket keeps the timeout of `getresponse` for the body.
        connection.request = partial(_within, known, "request")
        connection.getresponse = partial(_within, known, "getresponse")


def _new_connection(cls: Any, *args: Any, **options: Any) -> Any:
    """Return a connection that connects and waits for no longer than the time left."""
    connection = cls(*args, **options)
    connection.connect = partial(_connect, ref(connection))
    return connection


def _new_pool(cls: Any, *args: Any, **options: Any) -> Any:
    """Return a pool of such connections."""
    pool = cls(*args, **options)
    made = getattr(pool, "ConnectionCls", None)
    if hasattr(made, "connect"):
        pool.ConnectionCls = partial(_new_connection, made)
    return pool


def use_timed_connections(manager: Any) -> bool:
    """
    Make a pool manager create connections that wait no longer than the time left. Return False if it cannot.

    Args:
        manager: A pool manager of urllib3.
    """
    classes = getattr(manager, "pool_classes_by_scheme", None)
    if not isinstance(classes, dict):
        return False
    manager.pool_classes_by_scheme = {scheme: partial(_new_pool, cls) for scheme, cls in classes.items()}
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
