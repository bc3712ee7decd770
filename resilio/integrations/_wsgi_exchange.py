"""
One request in WSGI as the middleware sees it: its status, its body, and when the permit ends.

The permit covers the making of the response: it ends when the server closes the iterable that the app has returned, or
when somebody raises. A server that closes it before it is at its end has lost its client. One that drops it without
closing it, as it must not, leaves that to the collector, which counts it as abandoned.

The quick part, which most requests need and no more, is `resilio._native.gateway`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from typing import Any

from resilio._native.gateway import Body, Exchange, sized

__all__ = ["Exchange", "TimedExchange", "around"]


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
        try:
            return super().start_response(status, headers, exc_info)
        finally:
            exc_info = None  # it would keep its frames alive, and they this one


class _Within:
    """Iterates in a context."""

    __slots__ = ("_context", "_following")

    def __init__(self, context: Context, parts: Iterator[bytes]) -> None:
        self._context = context
        self._following = parts.__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(self._following)


def around(result: Iterable[bytes], exchange: Exchange, context: Context | None) -> Iterable[bytes]:
    """
    Put the permit around what the app has returned.

    Args:
        result: What it has returned.

        exchange: The request.

        context: Its own, if it has one.
    """
    if isinstance(result, (list, tuple)) and not hasattr(result, "close"):
        return sized(exchange, result)
    if _is_file(result, exchange.environ) and _pass_file(result, exchange):
        return result
    parts, close = iter(result), getattr(result, "close", None)
    if context is None:
        return Body(exchange, parts, close)
    return Body(exchange, _Within(context, parts), None if close is None else lambda: context.run(close))


def _is_file(result: object, environ: Any) -> bool:
    """Tell whether the server made it, of a file, and may send it in a way of its own."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(result, wrapper)


def _pass_file(wrapper: Any, exchange: Exchange) -> bool:
    """
    Have the permit end with the server's own wrapper of a file, which the server has to see as it is to send it fast.

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
        exchange.close()

    with suppress(AttributeError, TypeError):
        wrapper.close = close
        return True
    return False
