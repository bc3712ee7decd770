"""The guarded body of a response: requests reads it in place of urllib3's response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

from resilio._native.core import Permit, seconds_left
from resilio.errors import DeadlineExceededError
from resilio.integrations._shared.held_permits import HeldPermits
from resilio.integrations._shared.socket_time import BodyTime, end_out_of_time, late_of

__all__ = ["RawBody"]

_set = object.__setattr__  # the proxy's own sets attributes of the response
_READERS = frozenset({"drain_conn", "read1", "readinto", "readline", "readlines"})


class RawBody(HeldPermits):
    """
    Proxy of urllib3's response. By any method of reading, the last byte ends the permits, and an error fails them.

    Each part has a time limit. All other attributes are read and set on the response. It is Python, since most of its
    cost is memory that was last used a request ago: a native one of as many steps cost a breaker as much.
    """

    __slots__ = ("_inner", "_original_response", "_request", "_time")
    _inner: Any
    _original_response: Any  # of urllib3's: requests finds the cookies there
    _permits: list[Permit]
    _request: Any
    _time: BodyTime | None

    def __init__(self, inner: Any, label: str, request: Any, time: BodyTime | None, permits: list[Permit]) -> None:
        """
        Begin with the permits that are there.

        Args:
            inner: urllib3's response.

            label: Name of the response in the log, if it is abandoned.

            request: The request, or None.

            time: Its time limits; None: it has none.

            permits: Permits, whose answer has been judged; the body keeps the list.
        """
        _put_inner(self, inner)
        _put_original(self, getattr(inner, "_original_response", None))
        _put_permits(self, permits)
        _put_label(self, label)
        _put_request(self, request)
        _put_time(self, time)

    @staticmethod
    def _translate(error: BaseException) -> BaseException:
        """Translate an error of urllib3 for the policy's rules."""
        raise NotImplementedError

    @staticmethod
    def _in_terms(error: Exception) -> Exception:
        """Translate an error of resilio into the client's terms."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        return True

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Class of the response inside, for `isinstance`."""
        return type(self._inner)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return partial(self._seen, found) if name in _READERS else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            _set(self, name, value)
        else:
            setattr(self._inner, name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self.stream(inner=iter(self._inner))

    def __next__(self) -> bytes:
        line: bytes = self._seen(self._inner.readline)  # as any file does
        if not line:
            self.ended()
            raise StopIteration
        return line

    @property
    def data(self) -> Any:
        """All of the body."""
        return self._seen(getattr, self._inner, "data")

    def json(self) -> Any:
        """Return the body, read as JSON."""
        _ = self.data  # kept by urllib3; invalid JSON is not an error of the body
        return self._inner.json()

    def read(self, amt: int | None = None, *args: Any, **options: Any) -> bytes:
        """Return at most `amt` bytes of the body, or the rest if it is None, as urllib3 does."""
        part: bytes = self._seen(self._inner.read, amt, *args, **options)
        if amt is None or (not part and amt):
            self.ended()
        return part

    def read_chunked(self, *args: Any, **options: Any) -> Iterator[bytes]:
        """Yield the body in chunks, as the server sent it."""
        return self.stream(inner=self._inner.read_chunked(*args, **options))

    def stream(
        self, amt: int | None = 65536, decode_content: bool | None = None, *, inner: Iterator[bytes] | None = None
    ) -> Iterator[bytes]:
        """Yield the body in parts, as urllib3 does, or those of its iterator `inner`, whose end is that of the body."""
        parts = self._inner.stream(amt, decode_content=decode_content) if inner is None else inner
        is_over = False
        try:
            if self._time is None and seconds_left() is None:
                for part in parts:
                    yield part
                    if seconds_left() is not None:  # its reader has set a deadline
                        break
                else:
                    is_over = True
            while not is_over and (more := self._next_part(parts)) is not None:
                yield more
        except GeneratorExit:
            close: Any = getattr(parts, "close", None)
            if close is not None:
                close()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self.ended()

    def close(self) -> None:
        """End the permits, then close the response."""
        if self._permits and self._request is not None:
            headers = getattr(self._inner, "headers", {})
            if self._request.method == "HEAD" or headers.get("content-length") == "0":
                self.ended()
        self.aborted()
        self._inner.close()

    def failed(self, error: BaseException) -> None:
        """End the permits with the error that broke off the body."""
        shown = self._translate(error)
        if isinstance(shown, DeadlineExceededError):
            end_out_of_time(self, shown)
        super().failed(shown)

    # ---- how it is read ---------------------------------------------------------------------------------------------

    def _next_part(self, inner: Iterator[bytes]) -> bytes | None:
        """Return the next part within its time limit, None at the end: what has read the last byte waits no more."""
        if not getattr(self._inner, "length_remaining", None) and _is_read(self._inner):
            return next(inner, None)
        part: bytes | None = self._step(next, inner, None)
        return part

    def _seen(self, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function that reads the response, and return its result."""
        try:
            found = self._step(read, *args, **options)
        except Exception as error:
            self.failed(error)
            raise
        if _is_read(self._inner):
            self.ended()
        return found

    def _step(self, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function that waits for the next part, within its time limit."""
        time = self._time
        if time is None:
            return self._done(read, *args, **options) if seconds_left() is not None else read(*args, **options)
        found = time.step().run(self._done, read, *args, **options)
        late = time.late()
        if late is not None:
            self._inner.close()  # urllib3 has seen no error
            raise self._in_terms(late)
        return found

    def _done(self, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function that reads; the error of a time limit takes the place of the one that it has caused."""
        try:
            return read(*args, **options)
        except Exception as error:
            late = late_of(error)
            if late is None:
                raise
            raise self._in_terms(late) from error


_OWN = frozenset((*HeldPermits.__slots__, *RawBody.__slots__))
"""Attributes of the proxy itself; all others are set on urllib3's response."""


def _put(name: str) -> Callable[[RawBody, Any], None]:
    """Return the function that sets one of them, at less than half the cost of `object.__setattr__`."""
    put: Callable[[RawBody, Any], None] = getattr(RawBody, name).__set__
    return put


_put_inner, _put_original, _put_request, _put_time = map(_put, RawBody.__slots__)
_put_permits, _put_label = map(_put, HeldPermits.__slots__[1:])


def _is_read(inner: Any) -> bool:
    """Return True if urllib3 has read the last byte, after which it closes the response for reading."""
    is_closed = getattr(inner, "isclosed", None)
    return bool(is_closed is not None and is_closed())
