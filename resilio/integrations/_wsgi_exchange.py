"""
One request in WSGI as the middleware sees it: its status, its body, and when the permit ends.

The permit covers the making of the response: it ends when the server closes the iterable that the app has returned, or
when somebody raises. A server that closes it before it is at its end has lost its client. One that drops it without
closing it, as it must not, leaves that to the collector, which counts it as abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from resilio._native.core import Permit
from resilio._native.exchange import settle
from resilio._policy import Policy
from resilio.integrations._body import Held
from resilio.integrations._server import REFUSALS

__all__ = ["Body", "Exchange", "SizedBody", "TimedExchange", "pass_file"]

Answering = Callable[[Any, "Exchange", Exception], bytes]


class Exchange:
    """The permit of one request, ended once, by whatever comes first."""

    __slots__ = (
        "_answering",
        "_environ",
        "_first",
        "_policy",
        "_start_response",
        "_write",
        "head",
        "permit",
        "status",
        "whole",
    )

    def __init__(
        self, environ: Any, start_response: Callable[..., Any], policy: Policy[Any], answering: Answering
    ) -> None:
        """
        Hold no permit yet.

        Args:
            environ: The request.

            start_response: The server's.

            policy: What it will hold a permit of.

            answering: Begins the response to a refusal in place of the app's, and returns its body.
        """
        self.permit: Permit | None = None  # first: a finaliser looks for it
        self._environ = environ
        self._start_response = start_response
        self._policy = policy
        self._answering = answering
        self._first = True
        self.head = environ.get("REQUEST_METHOD") == "HEAD"  # nobody asks for the body
        self.status = 0
        self.whole = False  # whether the body has been given to its end

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """Begin the response for the app; again, as the server allows, with `exc_info`."""
        try:
            given = (status, headers) if exc_info is None else (status, headers, exc_info)
            self._write = self._start_response(*given)
        finally:
            exc_info = None  # it would keep its frames alive, and they this one
        code = status[:3]
        self.status = int(code) if code.isdecimal() else 500
        return self.write

    def write(self, data: bytes) -> None:
        """Write a part of the body at once, as apps do that have no iterable."""
        try:
            self._write(data)
        except OSError:  # the client has left
            self.left()
            raise
        self.first_byte()

    def first_byte(self) -> None:
        """Note that the first part of the body is there: that is the latency of a stream."""
        if self._first:
            self._first = False
            if self.permit is not None:
                self.permit.first_item()

    def failed(self, error: BaseException) -> None:
        """End the permit as its gates judge what the app has raised."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.raised(error)

    def answer(self, error: BaseException) -> bytes:
        """Answer a refusal if the response has not begun, and return the answer's body; else raise the error."""
        self.failed(error)
        if self.status or not isinstance(error, REFUSALS):
            raise error
        return self._answering(self._environ, self, error)

    def left(self) -> None:
        """End the permit because the client has left: that says nothing about the app."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.ignore()

    def closed(self) -> None:
        """End the permit because the body is closed, at its end or before."""
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole or self.head:
            settle(permit, self.status or 500)
        else:
            permit.ignore()

    def __del__(self) -> None:
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole:  # and not closed, as some servers do where there is nothing to close
            settle(permit, self.status or 500)
        else:
            held = Held(self._policy.label)
            held.add(permit)
            held.abandoned()


class TimedExchange(Exchange):
    """A request whose response tells in its head where the time has gone so far."""

    __slots__ = ()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """Begin as any, with the header Server-Timing."""
        timing = "" if self.permit is None else self.permit.segments.server_timing()
        if timing:
            headers = [*headers, ("Server-Timing", timing)]
        return super().start_response(status, headers, exc_info)


class Body:
    """What the server iterates over and closes in place of the app's iterable."""

    __slots__ = ("_close", "_exchange", "_next")

    def __init__(self, exchange: Exchange, following: Callable[[], bytes], close: Callable[[], object] | None) -> None:
        """
        Begin at the beginning.

        Args:
            exchange: The request.

            following: Gives the next part, or raises StopIteration.

            close: The iterable's own; None: it has none.
        """
        self._exchange = exchange
        self._next = following
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part = self._next()
        except StopIteration:
            self._exchange.whole = True
            raise
        except BaseException as error:  # noqa: BLE001 - it is raised again, or the response to it
            body = self._exchange.answer(error)  # of a generator that was refused before it had begun to answer
            self._next = iter(()).__next__
            return body
        if part:
            self._exchange.first_byte()
        return part

    def close(self) -> None:
        """Close the app's iterable, then end the permit."""
        close, self._close = self._close, None
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._exchange.failed(error)
            raise
        self._exchange.closed()


class SizedBody(Body):
    """A body of known length, of which servers make a Content-Length; its parts are all there: it is no stream."""

    __slots__ = ("_length",)

    def __init__(
        self, exchange: Exchange, following: Callable[[], bytes], close: Callable[[], object] | None, length: int
    ) -> None:
        """
        As a body.

        Args:
            exchange: The request.

            following: As a body's.

            close: As a body's.

            length: How many parts there are.
        """
        super().__init__(exchange, following, close)
        self._length = length
        exchange._first = False

    def __len__(self) -> int:
        return self._length


def pass_file(wrapper: Any, exchange: Exchange) -> bool:
    """
    Have the permit end with the server's own wrapper of a file, which the server has to see as it is to send it fast.

    Args:
        wrapper: What the app has made by `wsgi.file_wrapper`.

        exchange: The request.

    Returns:
        False: it is one that nothing can be added to.
    """
    own = getattr(wrapper, "close", None)

    def close() -> None:
        try:
            if own is not None:
                own()
        except BaseException as error:
            exchange.failed(error)
            raise
        exchange.whole = True  # as far as anybody can tell
        exchange.closed()

    with suppress(AttributeError, TypeError):
        wrapper.close = close
        return True
    return False
