"""
One request in WSGI as the middleware sees it: its status, its body, and when the permit ends.

The permit covers the making of the response: it ends when the server closes the iterable that the app has returned, or
when the app raises. A server that closes it before its end has lost its client. One that drops it without closing it,
as it must not, leaves that to the garbage collector, and the permit counts as abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from resilio.integrations._servers.middleware import REFUSALS, Server, settle
from resilio.integrations._shared.held_permits import HeldPermits

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["RequestContext", "TimedRequestContext", "around"]

Headers = list[tuple[str, str]]
_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class RequestContext:
    """
    The permit of one request, ended once, by whatever comes first.

    Attributes:
        environ: The request.

        permit: None before it is there and once it has ended.

        status: The response's, 0 before it has begun.

        streams: Whether the first part of the body is still to come: until then its latency is measured.

        whole: Whether the body has been given to its end.
    """

    __slots__ = ("_server", "_start_response", "_write", "environ", "permit", "status", "streams", "whole")

    _write: Callable[[bytes], object]

    def __init__(self, server: Server, environ: Any, start_response: Callable[..., Any]) -> None:
        """
        Hold no permit yet.

        Args:
            server: The middleware's options.

            environ: The request.

            start_response: The server's.
        """
        self.permit: Permit | None = None
        self.environ = environ
        self.status = 0
        self.streams = True
        self.whole = False
        self._server = server
        self._start_response = start_response

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], Any]:
        """Begin the response for the app; again, as the server allows, with `exc_info`."""
        try:
            if exc_info is None:
                self._write = self._start_response(status, headers)
            else:
                self._write = self._start_response(status, headers, exc_info)
        finally:
            exc_info = None  # it would keep its frames alive, and they this one
        self.status = _code(status)
        return self.write

    def write(self, data: bytes) -> None:
        """Write a part of the body at once, as apps do that have no iterable."""
        try:
            self._write(data)
        except OSError:  # the client has left
            self.left()
            raise
        if self.streams:
            self.first_part()

    def first_part(self) -> None:
        """Note that the first part of the body is there: that is the latency of a stream."""
        self.streams = False
        if self.permit is not None:
            self.permit.first_item()

    def failed(self, error: BaseException) -> None:
        """End the permit as its gates judge what the app has raised."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.raised(error)

    def left(self) -> None:
        """End the permit because the client has left: that says nothing about the app."""
        permit, self.permit = self.permit, None
        if permit is not None:
            permit.ignore()

    def close(self) -> None:
        """End the permit because the body is closed, at its end or before."""
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
        if self.whole:  # and not closed, as some servers do where there is nothing to close
            settle(permit, self.status or 500)
        else:
            held = HeldPermits(self._server.policy.label)
            held.add(permit)
            held.abandoned()

    def answer(self, error: BaseException) -> bytes:
        """End the permit, and begin the answer to a rejection: return its body. Raise the error if it has none."""
        self.failed(error)
        if self.status or not isinstance(error, REFUSALS):
            raise error
        # A WSGI app has no say in connections: its server has to skip a body that was not read.
        status, headers, body = self._server.answer(self.environ, error)
        phrase = _PHRASES.get(status, "Refused")
        self.start_response(f"{status} {phrase}", [(name.title(), value) for name, value in headers])
        return b"" if self._is_head() else body

    def _is_head(self) -> bool:
        """Return True if a server need not read the body."""
        return bool(self.environ.get("REQUEST_METHOD") == "HEAD")


class TimedRequestContext(RequestContext):
    """A request whose response has a header Server-Timing: where the time has gone so far."""

    __slots__ = ()

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], Any]:
        """Begin as any, with the header."""
        timing = "" if self.permit is None else self.permit.segments.server_timing()
        if timing:
            headers = [*headers, ("Server-Timing", timing)]
        try:
            return super().start_response(status, headers, exc_info)
        finally:
            exc_info = None  # it would keep its frames alive, and they this one


def _code(status: str) -> int:
    """Return the number that a status begins with; 500 if it begins with none, which is the app's fault."""
    code = str(status)[:3]
    return int(code) if len(code) == 3 and code.isdecimal() else 500


class Body(Iterator[bytes]):
    """What the server iterates over and closes in place of the app's iterable."""

    __slots__ = ("_close", "_parts", "_request")

    def __init__(
        self, request: RequestContext, parts: Iterator[bytes], close: Callable[[], object] | None = None
    ) -> None:
        """
        Begin at the beginning.

        Args:
            request: The request.

            parts: Iterates over them.

            close: The iterable's own; None: it has none.
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
        except BaseException as error:  # noqa: BLE001 - it is raised again, or answered
            part = request.answer(error)  # of a generator that was rejected before it had begun to answer
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
    """A body whose parts are all there, of which servers make a Content-Length; its latency ends with it."""

    __slots__ = ("size",)

    size: int

    def __len__(self) -> int:
        return self.size


class _Within(Iterator[bytes]):
    """Iterates in a context."""

    __slots__ = ("_context", "_following")

    def __init__(self, context: Context, parts: Iterator[bytes]) -> None:
        self._context = context
        self._following = parts.__next__

    def __next__(self) -> bytes:
        return self._context.run(self._following)


def around(result: Iterable[bytes], request: RequestContext, context: Context | None) -> Iterable[bytes]:
    """
    Put the permit around what the app has returned.

    Args:
        result: What it has returned.

        request: The request.

        context: Its own, if it has one.
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
    """Return True if the server made it, of a file, and may send it in a way of its own."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(result, wrapper)


def _pass_file(wrapper: Any, request: RequestContext) -> bool:
    """
    End the permit with the server's own wrapper of a file, which the server has to see as it is to send it fast.

    False: nothing can be added to the wrapper.
    """
    own = getattr(wrapper, "close", None)

    def close() -> None:
        try:
            if own is not None:
                own()
        except BaseException as error:
            request.failed(error)
            raise
        request.whole = True  # as far as can be known
        request.close()

    with suppress(AttributeError, TypeError):
        wrapper.close = close
        return True
    return False
