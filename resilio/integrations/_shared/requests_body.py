"""The guarded body of a response: requests reads it in place of urllib3's response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

from resilio._native.core import seconds_left
from resilio.errors import DeadlineExceededError
from resilio.integrations._shared.held_permits import HeldPermits
from resilio.integrations._shared.socket_time import BodyTime, BodyTimes, end_out_of_time, late_of

__all__ = ["RawBody"]

_READERS = frozenset({"drain_conn", "read1", "readinto", "readline", "readlines"})


class RawBody(HeldPermits):
    """
    Proxy of urllib3's response. By any method of reading, the last byte ends the permits, and an error fails them.

    Each part has a time limit. All other attributes are read and set on the response.
    """

    __slots__ = ("_in_terms", "_inner", "_request", "_time", "_translate")
    _in_terms: Callable[[Exception], Exception]
    _inner: Any
    _request: Any
    _time: BodyTime | None
    _translate: Callable[[BaseException], BaseException]

    def __init__(self, inner: Any, label: str, request: Any, translate: Any, in_terms: Any) -> None:
        """
        Begin without permits.

        Args:
            inner: urllib3's response.

            label: Name of the response in the log, if it is abandoned.

            request: The request, or None.

            translate: Translates an error of urllib3 for the policy's rules.

            in_terms: Translates an error of resilio into the client's terms.
        """
        self._inner = inner
        self._permits = []
        self.label = label
        self._request = request
        self._translate = translate
        self._in_terms = in_terms
        self._time = None

    def begin(self, times: BodyTimes) -> None:
        """Start the time limits of the body; called within the attempt."""
        if times.acts:
            self._time = times.begin()

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
            super().__setattr__(name, value)
        else:
            setattr(self._inner, name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return self._parts(iter(self._inner))

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
        return self._parts(self._inner.read_chunked(*args, **options))

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Iterator[bytes]:
        """Yield the body in parts, as urllib3 does."""
        return self._parts(self._inner.stream(amt, decode_content=decode_content))

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

    def _parts(self, inner: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the parts of an iterator, whose end or error is that of the body."""
        try:
            while True:
                try:
                    part = self._step(next, inner)
                except StopIteration:
                    break
                yield part
        except GeneratorExit:
            close: Any = getattr(inner, "close", None)
            if close is not None:
                close()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        self.ended()

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
        if self._time is None:
            return self._done(read, *args, **options) if seconds_left() is not None else read(*args, **options)
        with self._time.step():
            found = self._done(read, *args, **options)
        late = self._time.late()
        if late is not None:
            self._inner.close()  # urllib3 has seen no error
            raise self._in_terms(late)
        return found

    def _done(self, read: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return read(*args, **options)
        except Exception as error:
            late = late_of(error)
            if late is None:
                raise
            raise self._in_terms(late) from error


_OWN = frozenset((*HeldPermits.__slots__, *RawBody.__slots__))
"""Attributes of the proxy itself; all others are set on urllib3's response."""


def _is_read(inner: Any) -> bool:
    """Return True if urllib3 has read the last byte, after which it closes the response for reading."""
    is_closed = getattr(inner, "isclosed", None)
    return bool(is_closed is not None and is_closed())
