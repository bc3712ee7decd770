"""
Timeouts on the items of a foreign stream, like that of an SDK: `async for event in stream_timeout(...)`.

Why: a provider's pings keep a timeout on bytes from firing, and a timeout on the whole answer cuts long healthy ones.
When not: your own generator function is better guarded by `timeout(first=..., idle=...)`, from which gates inside
learn. Streams that are not async cannot be guarded, as they cannot be interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from resilio import _backends
from resilio._native import clock
from resilio._options.validators import function, reject, seconds
from resilio._policy.types import Time
from resilio.errors import CallTimeoutError

if TYPE_CHECKING:
    from types import TracebackType

    from resilio._backends.protocols import Cutoff

__all__ = ["StreamTimeout", "stream_timeout"]

T = TypeVar("T")


class StreamTimeout(Generic[T]):
    """
    A stream with timeouts on its items; see :func:`stream_timeout`, which makes one.

    No clock runs while the consumer processes an item. Between two items no timer is set and no scope is open, so that
    the stream may be read in one task and closed in another.
    """

    def __init__(
        self,
        stream: AsyncIterable[T],
        first: float | None,
        idle: float | None,
        total: float | None,
        counts: Callable[[T], object] | None,
    ) -> None:
        """Wrap the stream; the clock of `first` starts when the first item is requested."""
        self._stream = stream
        self._items: AsyncIterator[T] | None = None
        self._first = first
        self._idle = idle
        self._total = total
        self._counts = counts
        self._any = False
        self._spent_ns = 0
        self._since_ns = 0
        self._cutoff: Cutoff | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """
        Return the next item.

        Raises:
            CallTimeoutError: It came too late; `clock` names the timeout that fired. The stream has been closed.
        """
        if self._items is None:
            self._items = aiter(self._stream)
        which, limit, left = self._nearest()
        begun_ns = clock.now_ns()
        try:
            item = await (anext(self._items) if left is None else self._within(anext(self._items), left))
        except _Late:
            await self._close_late()
            raise CallTimeoutError(which, limit) from None
        took_ns = clock.now_ns() - begun_ns
        self._spent_ns += took_ns
        self._since_ns += took_ns
        if self._counts is None or self._counts(item):
            self._any, self._since_ns = True, 0
        return item

    def _nearest(self) -> tuple[str, float | None, float | None]:
        """Return the name of the clock that fires next, its limit and the time left in seconds; None: no clock."""
        which, limit = ("idle", self._idle) if self._any else ("first", self._first)
        left = None if limit is None else max(limit - self._since_ns / 1e9, 0.0)
        if self._total is not None:
            rest = max(self._total - self._spent_ns / 1e9, 0.0)
            if left is None or rest <= left:
                return "total", self._total, rest
        return which, limit, left

    async def _within(self, item: Any, left: float) -> T:
        cutoff = self._cutoff
        if cutoff is None:
            cutoff = self._cutoff = _backends.cutoff(None)
        try:
            cutoff.start(left)
            got: T = await item
            cutoff.close(None)
        except BaseException as error:
            if cutoff.close(error):
                raise _Late from error
            raise
        return got

    async def _close_late(self) -> None:
        with suppress(Exception):  # the timeout is raised, not an error of the closing
            await self.aclose()

    async def aclose(self) -> None:
        """Close the stream, by its `aclose()` or `close()`, whichever it has."""
        for name in ("aclose", "close"):
            close = getattr(self._stream, name, None)
            if close is not None:
                closing = close()
                if closing is not None:
                    await closing
                return

    async def __aenter__(self) -> Self:
        """Enter a block at whose end the stream is closed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the stream."""
        await self.aclose()


class _Late(Exception):  # noqa: N818 - never leaves this module
    """The cutoff has fired."""


def stream_timeout(
    stream: AsyncIterable[T],
    *,
    first: Time | None = None,
    idle: Time | None = None,
    total: Time | None = None,
    counts: Callable[[T], object] | None = None,
) -> StreamTimeout[T]:
    """
    Return the items of a stream with timeouts: a stream of an SDK, of a WebSocket, any async iterable.

    An item that comes too late closes the stream and raises CallTimeoutError, whose `clock` names the timeout.

    Args:
        stream: Any async iterable; `aclose()` or `close()` is called if it has one.
        first: Seconds until the first item that counts.
        idle: Seconds from one item that counts to the next; the consumer's own time does not count.
        total: Seconds for all items, without the consumer's own time.
        counts: Predicate: `counts(item)` is true if an item is progress. A ping is none, but is yielded too. None: all.

    Raises:
        TypeError: No async iterable, no clock at all, or an option of a wrong type.
        ValueError: An option out of range.
    """
    if not hasattr(type(stream), "__aiter__"):
        reject("stream", stream, "an async iterable: what is not async cannot be interrupted", TypeError)
    times = {"first": first, "idle": idle, "total": total}
    if not any(time is not None for time in times.values()):
        reject("first", first, "seconds, unless `idle` or `total` is given", TypeError)
    checked = {name: seconds(name, time, none_ok=True) for name, time in times.items()}
    return StreamTimeout(stream, counts=function("counts", counts, takes=("item",)), **checked)
