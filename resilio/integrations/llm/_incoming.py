"""The streamed answer of one attempt, read event by event; its current owner closes it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from resilio._native.sse import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from resilio.integrations.llm._bill import AttemptBill
    from resilio.integrations.llm._call import ModelCall

__all__ = ["AsyncIncoming", "Incoming", "decoded", "kept_headers"]

_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def kept_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers without those of the body's encoding, which no longer apply once it is decoded."""
    return [header for header in headers.raw if header[0].lower() not in _OF_THE_BODY]


def decoded(response: Any, body: Any) -> Any:
    """
    Return a copy of a response with an unread, decoded body.

    Args:
        response: A response of the HTTP client.

        body: The decoded body, a stream of the same client.
    """
    headers = kept_headers(response.headers)
    return type(response)(response.status_code, headers=headers, stream=body, extensions=response.extensions)


class _Incoming:
    """
    State of an answer that is being read.

    Attributes:
        response: The response, until the SDK takes it; a reference from the policy would keep it from being collected.

        over: Whether the answer is whole, or has ended. Bytes after its end are read by the SDK alone.

        tail: Bytes that are left for the SDK when the policy's call ends.
    """

    __slots__ = ("_bill", "_call", "_chunks", "_encoded", "_headers", "_inner", "_reader", "over", "response", "tail")

    def __init__(self, call: ModelCall, response: Any, bill: AttemptBill) -> None:
        """Begin to read; a body without an encoding is read from the raw stream, which is faster."""
        self._bill = bill
        headers = self._headers = response.headers
        events = headers.get("content-type", "").startswith("text/event-stream")
        self._call = call
        self._reader = Reader(call.exchange.guard.dialect, events=events)
        self._encoded = "content-encoding" in headers
        self._inner: Any = response if self._encoded else response.stream
        self._chunks: Any = None
        self.response: Any = response
        self.over = False
        self.tail = b""

    def feed(self, chunk: bytes) -> bool:
        """Parse a piece of the body; return True once the answer is whole."""
        reader = self._reader
        reader.feed(chunk)
        return reader.complete and reader.error is None

    @property
    def moved(self) -> bool:
        """Whether there is unread data that changes the answer for the caller."""
        return self._reader.moved

    def take(self) -> bytes:
        """Return the next bytes for the SDK."""
        self._call.exchange.details.partial = True
        return self._reader.take()

    def check(self) -> None:
        """Raise the error that the stream contained, if any; the bytes read so far are left for the SDK."""
        if self._reader.error is None:
            return
        self.tail = self._reader.take()
        error, raised = self._reader.error
        self._call.exchange.raise_inside(self._call, error, self._headers, as_it_came=None if raised else self)

    def end(self) -> None:
        """Note the end of the body; raise if the answer has not ended."""
        self._reader.end()
        self.check()
        exchange = self._call.exchange
        if self._reader.cut and exchange.guard.whole_answers:
            self.tail = self._reader.take()
            exchange.fail_cut()

    def leave(self) -> None:
        """Note the end of the answer; the last piece, and all bytes after it, are left for the SDK."""
        # Until the policy is done: a caller that stops at `[DONE]`, as an SDK does over HTTP/2, has aborted nothing.
        self.tail = self._reader.take()
        self.over = True
        reader = self._reader
        self._call.exchange.learn(self._call, reader.usage, reader.model, self._bill)

    def answer(self, body: Any) -> Any:
        """
        Return the response that the SDK gets.

        Args:
            body: The decoded bytes for the SDK, as a stream of its HTTP client.
        """
        response, self.response = self.response, None
        if not self._encoded:
            response.stream = body
            return response
        return decoded(response, body)


class AsyncIncoming(_Incoming):
    """An incoming answer of an async client."""

    __slots__ = ()

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the pieces, always as the same iterator."""
        if self._chunks is None:
            self._chunks = self._inner.aiter_bytes() if self._encoded else aiter(self._inner)
        return self._chunks  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """Release the connection, once."""
        inner, self._inner = self._inner, None
        if inner is None:
            return
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            with suppress(RuntimeError):  # raised if a loop that shuts down is closing it already
                await close()
        await inner.aclose()


class Incoming(_Incoming):
    """An incoming answer of a sync client."""

    __slots__ = ()

    def chunks(self) -> Iterator[bytes]:
        """Return the pieces, always as the same iterator."""
        if self._chunks is None:
            self._chunks = self._inner.iter_bytes() if self._encoded else iter(self._inner)
        return self._chunks  # type: ignore[no-any-return]

    def close(self) -> None:
        """Release the connection, once."""
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()
