"""
State of one WSGI request in the middleware: its status, its body, and the end of its permit.

The permit covers the making of the response. It ends when the server closes the app's iterable, or when the app raises.
A server that closes the iterable before its end has lost its client. A server that drops it unclosed, against the
protocol, leaves it to the garbage collector, and the permit counts as abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from resilio.integrations._servers.middleware import REJECTIONS, Server, settle
from resilio.integrations._shared.held_permits import HeldPermits

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["RequestContext", "TimedRequestContext", "around"]

Headers = list[tuple[str, str]]
_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class RequestContext:
    """
    The permit of one request, ended once, by the first event that can end it.

    Attributes:
        environ: The request.

        permit: The permit; None before its acquisition and after its end.

        status: The response's status, 0 before it has begun.

        streams: Whether the first part of the body, which ends the latency, is still to come.

        whole: Whether the server has read the body to its end.
    """

    __slots__ = ("_server", "_start_response", "_write", "environ", "permit", "status", "streams", "whole")

    _write: Callable[[bytes], object]

    def __init__(self, server: Server, environ: Any, start_response: Callable[..., Any]) -> None:
        """
        Begin without a permit.

        Args:
            server: The middleware's options.

            environ: The request.

            start_response: The server's `start_response`.
        """
        self.permit: Permit | None = None
        self.environ = environ
        self.status = 0
        self.streams = True
        self.whole = False
        self._server = server
        self._start_response = start_response

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], Any]:
        """Begin the response for the app; with `exc_info` it may begin again, if the server allows it."""
        try:
            if exc_info is None:
                self._write = self._start_response(status, headers)
            else:
                self._write = self._start_response(status, headers, exc_info)
        finally:
            exc_info = None  # breaks the cycle of its traceback with this frame
        self.status = _code(status)
        return self.write

    def write(self, data: bytes) -> None:
        """Write a part of the body at once, for apps without an iterable."""
        try:
            self._write(data)
        except OSError:  # the client has left
            self.left()
            raise
        if self.streams:
            self.first_part()

    def first_part(self) -> None:
        """Note the first part of the body, which ends the latency of a stream."""
        self.streams = False
        if self.permit is not None:
            self.permit.first_item()

    def failed(self, error: BaseException) -> None:
        """End the permit; its gates judge the app's exception."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.raised(error)

    def left(self) -> None:
        """End the permit because the client has left; the outcome is ignored."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.ignore()

    def close(self) -> None:
        """End the permit because the server has closed the body, at its end or before."""
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole or self._is_head():
            settle(permit, self.status or 500)
        else:
            permit.ignore()

    def __del__(self) -> None:
        permit, self.permit = self.permit, None
        if permit is None:
            return
        if self.whole:  # unclosed, as some servers leave an iterable without `close`
            settle(permit, self.status or 500)
        else:
            held = HeldPermits(self._server.policy.label)
            held.add(permit)
            held.abandoned()

    def answer(self, error: BaseException) -> bytes:
        """End the permit, begin the answer to a rejection and return its body; re-raise errors without an answer."""
        self.failed(error)
        if self.status or not isinstance(error, REJECTIONS):
            raise error
        # A WSGI app cannot close the connection: its server has to skip an unread body.
        status, headers, body = self._server.answer(self.environ, error)
        phrase = _PHRASES.get(status, "Rejected")
        self.start_response(f"{status} {phrase}", [(name.title(), value) for name, value in headers])
        return b"" if self._is_head() else body

    def _is_head(self) -> bool:
        """Return True if a server need not read the body."""
        return bool(self.environ.get("REQUEST_METHOD") == "HEAD")


class TimedRequestContext(RequestContext):
    """A request whose response has a header Server-Timing: the time spent so far, by segment."""

    __slots__ = ()

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], Any]:
        """Begin the response as the base class does, with the header added."""
        timing = "" if self.permit is None else self.permit.segments.server_timing()
        if timing:
            headers = [*headers, ("Server-Timing", timing)]
        try:
            return super().start_response(status, headers, exc_info)
        finally:
            exc_info = None  # breaks the cycle of its traceback with this frame


def _code(status: str) -> int:
    """Return the code of a status line; 500, a failure of the app, if it is invalid."""
    code = str(status)[:3]
    return int(code) if len(code) == 3 and code.isdecimal() else 500


class Body(Iterator[bytes]):
    """Wrapper of the app's iterable, which the server iterates over and closes."""

    __slots__ = ("_close", "_parts", "_request")

    def __init__(
        self, request: RequestContext, parts: Iterator[bytes], close: Callable[[], object] | None = None
    ) -> None:
        """
        Wrap an iterable.

        Args:
            request: The request.

            parts: Iterator over the iterable.

            close: The iterable's `close`, or None.
        """
        self._request = request
        self._parts = parts
        self._close = close

    def __next__(self) -> bytes:
        request = self._request
        try:
            part = next(self._parts)
        except StopIteration:
            request.whole = True
            raise
        except BaseException as error:  # noqa: BLE001 - raised again, or answered
            part = request.answer(error)  # a generator may be rejected before it begins to answer
            self._parts = iter(())
        if part and request.streams:
            request.first_part()
        return part

    def close(self) -> None:
        """Close the app's iterable, then end the permit."""
        close, self._close = self._close, None
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._request.failed(error)
            raise
        self._request.close()


class SizedBody(Body):
    """A body of known parts, so that servers can set Content-Length; its latency ends with the body."""

    __slots__ = ("size",)

    size: int

    def __len__(self) -> int:
        return self.size


class _Within(Iterator[bytes]):
    """Iterator that runs in a context."""

    __slots__ = ("_context", "_following")

    def __init__(self, context: Context, parts: Iterator[bytes]) -> None:
        self._context = context
        self._following = parts.__next__

    def __next__(self) -> bytes:
        return self._context.run(self._following)


def around(result: Iterable[bytes], request: RequestContext, context: Context | None) -> Iterable[bytes]:
    """
    Tie the permit to the app's iterable.

    Args:
        result: The app's iterable.

        request: The request.

        context: The request's own context, or None.
    """
    if type(result) is list or (isinstance(result, (list, tuple)) and not hasattr(result, "close")):
        request.streams = False
        body = SizedBody(request, iter(result))
        body.size = len(result)
        return body
    if _is_file(result, request.environ) and _pass_file(result, request):
        return result
    parts, close = iter(result), getattr(result, "close", None)
    if context is None:
        return Body(request, parts, close)
    return Body(request, _Within(context, parts), None if close is None else lambda: context.run(close))


def _is_file(result: object, environ: Any) -> bool:
    """Return True if the iterable is the server's own wrapper of a file, which it may send in a faster way."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(result, wrapper)


def _pass_file(wrapper: Any, request: RequestContext) -> bool:
    """
    End the permit when the server closes its own wrapper of a file, which must stay unwrapped to be sent fast.

    Return False if the wrapper's `close` cannot be replaced.
    """
    own = getattr(wrapper, "close", None)

    def close() -> None:
        try:
            if own is not None:
                own()
        except BaseException as error:
            request.failed(error)
            raise
        request.whole = True  # the server does not report how much it has sent
        request.close()

    with suppress(AttributeError, TypeError):
        wrapper.close = close
        return True
    return False
