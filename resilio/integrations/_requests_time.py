"""
Connections and bodies of urllib3 for threads that wait no longer than is left; see `_socket_time`.

Pools are given classes of their own by what urllib3 documents for that: `pool_classes_by_scheme` and `ConnectionCls`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from resilio._native.body import Parts, RawBody
from resilio._native.core import seconds_left
from resilio._time_limit import late_error
from resilio.errors import DeadlineExceededError
from resilio.integrations._socket_time import BodyTime, BodyTimes, end_out_of_time, late_of, left_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TimedBody", "narrowed", "use_timed_connections"]


class _TimedReader(io.RawIOBase):
    """Reads a socket, each time for no longer than is left."""

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
    """A connected socket whose waits take no longer than is left."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._timeout: float | None = inner.gettimeout()
        self._narrowed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def settimeout(self, seconds: float | None) -> None:
        """Take what the client's own timeout gives."""
        self._timeout = seconds
        self.inner.settimeout(seconds)

    def prepare(self) -> None:
        """Have the next wait take no longer than is left."""
        left = seconds_left()
        if left is None and not self._narrowed:
            return
        if left == 0.0:  # also where there is always something to read
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
        """Return a file, as the socket inside; the one that answers are read from waits no longer than is left."""
        if mode != "rb" or args or options:
            return self.inner.makefile(mode, *args, **options)
        return io.BufferedReader(_TimedReader(self))


class _TimedConnection:
    """What a class of connections has in other words."""

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
    Have a manager of pools make connections whose waits take no longer than is left; False: that is impossible.

    Args:
        manager: Of urllib3.
    """
    classes = getattr(manager, "pool_classes_by_scheme", None)
    if not isinstance(classes, dict):
        return False
    manager.pool_classes_by_scheme = {scheme: _timed_pool(cls) for scheme, cls in classes.items()}
    return True


def narrowed(timeout: Any, kind: Any) -> Any:
    """
    Return a timeout of requests that gives no more than is left.

    Args:
        timeout: Seconds, one for connecting and one for reading, what urllib3 makes of them, or None.

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


class TimedBody(RawBody):
    """What stands for urllib3's response, each part of which has to come in time."""

    __slots__ = ("_in_terms", "_time")
    _in_terms: Callable[[Exception], Exception]
    _time: BodyTime | None

    def __init__(self, inner: Any, label: str, request: Any, permits: list[Any], told: Any, in_terms: Any) -> None:
        """
        Be one of a response that is here.

        Args:
            inner: urllib3's response.

            label: What is abandoned, for the log.

            request: Whose response it is, or None.

            permits: What ends with the body.

            told: Returns an error of urllib3 as rules see it.

            in_terms: Returns an error of resilio's as the client's users know errors.
        """
        super().__init__(inner, label, request, permits, told)
        _set_in_terms(self, in_terms)
        _set_time(self, None)

    def begin(self, times: BodyTimes) -> None:
        """Begin with the body: called within the attempt."""
        if times.acts:
            _set_time(self, times.begin())

    def failed(self, error: BaseException) -> None:
        """End the permits with the error that the body has broken off with."""
        if isinstance(error, DeadlineExceededError):
            end_out_of_time(self, error)
        super().failed(error)

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Any:
        """Give the body in parts, as urllib3 does."""
        return self._parts(self._inner.stream(amt, decode_content=decode_content))

    def read_chunked(self, *args: Any, **options: Any) -> Any:
        """Give the body in chunks, as the server has sent it."""
        return self._parts(self._inner.read_chunked(*args, **options))

    def _parts(self, inner: Iterator[bytes]) -> Any:
        if self._time is None and seconds_left() is None:
            return Parts(self, inner)
        return Parts(self, self._in_time(inner))

    def _in_time(self, inner: Iterator[bytes]) -> Iterator[bytes]:
        while True:
            try:
                part = self._step(next, inner)
            except StopIteration:
                return
            yield part

    def _seen(self, read: Any, *args: Any, **options: Any) -> Any:
        return super()._seen(self._step, read, *args, **options)

    def _step(self, read: Any, *args: Any, **options: Any) -> Any:
        if self._time is None:
            return self._done(read, *args, **options)
        with self._time.step():
            found = self._done(read, *args, **options)
        late = self._time.late()
        if late is not None:
            self._inner.close()  # urllib3 knows of no error
            raise self._in_terms(late)
        return found

    def _done(self, read: Any, *args: Any, **options: Any) -> Any:
        try:
            return read(*args, **options)
        except Exception as error:
            late = late_of(error)
            if late is None:
                raise
            raise self._in_terms(late) from error


# An attribute that is set on the body is set on urllib3's response.
_set_in_terms = TimedBody.__dict__["_in_terms"].__set__
_set_time = TimedBody.__dict__["_time"].__set__
