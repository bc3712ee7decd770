"""Bodies of httpx and httpx2 under guard: streams of the client's own class that hold permits and end them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self

from resilio import _backends
from resilio._native import clock
from resilio._native.core import phase
from resilio.errors import CallTimeoutError, DeadlineExceededError
from resilio.integrations._shared.held_permits import HeldPermits
from resilio.integrations._shared.socket_time import BodyTime, end_out_of_time, late_of, narrow_reads

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from resilio._native.strategies import TimeoutGate

__all__ = ["AsyncBody", "Body", "TimedAsyncBody", "TimedBody", "in_time"]


async def in_time(awaited: Awaitable[Any], gate: TimeoutGate, which: str, limit: float) -> Any:
    """
    Await within the limit of a timeout's clock, and return the result.

    Args:
        awaited: An awaitable, not yet begun.

        gate: The timeout.

        which: The clock: "first" or "idle".

        limit: Seconds.

    Raises:
        CallTimeoutError: It took longer.

        DeadlineExceededError: It took longer, and the ambient deadline has passed as well.
    """
    cut, begun_ns = _backends.cutoff(None), clock.now_ns()
    cut.start(limit)
    try:
        result = await awaited
    except BaseException as error:
        if cut.close(error):
            raise gate.timed_out(begun_ns + round(limit * 1e9), limit, which) from error
        raise
    cut.close(None)
    return result


class _HttpBody(HeldPermits):
    """Base class of sync and async bodies; each is its own iterator."""

    __slots__ = ("_inner", "_iterator", "headers")
    _idle: ClassVar[TimeoutGate | None]

    def __init__(self, inner: Any, headers: Any) -> None:
        """
        Begin without permits.

        Args:
            inner: The stream of a response.

            headers: Headers of the response; those of an empty one if it has no body to read.
        """
        self._permits = []
        self._inner: Any = inner
        self._iterator: Any = None
        self.headers = headers

    @staticmethod
    def _translate(error: Exception) -> Exception:
        """Translate an error of resilio into the client's terms; the class made for a transport overrides it."""
        return error

    def _closed(self) -> None:
        """End the permits, because the caller closes the body: as complete if there was nothing to read."""
        if self._iterator is None and self.headers.get("content-length") == "0":
            self.ended()
        else:
            self.aborted()
        phase(None)

    def _at_end(self) -> None:
        """End the permits after the last part."""
        self._iterator = None
        self.ended()
        phase(None)

    def _release(self) -> tuple[Any, Any]:
        """Return the stream inside and its iterator, each None if it has been closed before or never begun."""
        inner, self._inner = self._inner, None
        iterator, self._iterator = self._iterator, None
        return inner, iterator


class AsyncBody(_HttpBody):
    """
    The body of a response under guard: its permits end with it.

    It looks like an async generator, because httpx2 closes those when they are left early.
    """

    __slots__ = ()

    def limit(self, request: Any) -> None:
        """Do nothing: each step has its own limit."""

    def __aiter__(self) -> Self:
        if self._iterator is None and self._inner is not None:
            self._iterator = self._inner.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        iterator = self._iterator
        if iterator is None:
            raise StopAsyncIteration
        try:
            part: bytes = await anext(iterator)
        except StopAsyncIteration:
            self._at_end()
            raise
        except BaseException as error:
            if not (isinstance(error, RuntimeError) and getattr(iterator, "ag_running", False)):  # another task reads
                self.failed(error)
            raise
        return part

    async def asend(self, value: Any) -> bytes:  # noqa: ARG002
        """Return the next part, as of an async generator."""
        return await self.__anext__()

    async def athrow(self, *error: Any) -> bytes:
        """Close the body, and raise, as of an async generator."""
        await self.aclose()
        raise error[0]

    async def aclose(self) -> None:
        """End the permits, then the connection's use."""
        if self._permits:
            self._closed()
        inner, iterator = self._release()
        if inner is None:
            return
        try:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                with suppress(RuntimeError):  # another task is reading: it sees the connection end
                    await close()
        finally:
            await inner.aclose()


class TimedAsyncBody(AsyncBody):
    """A body with a time limit for each part."""

    __slots__ = ()

    async def __anext__(self) -> bytes:
        gate, iterator = self._idle, self._iterator
        limit = None if gate is None else gate.idle
        if gate is None or limit is None or iterator is None:
            return await super().__anext__()
        try:
            part: bytes = await in_time(iterator.__anext__(), gate, "idle", limit)
        except StopAsyncIteration:
            self._at_end()
            raise
        except (CallTimeoutError, DeadlineExceededError) as late:
            self.failed(late)
            raise self._translate(late) from late.__cause__
        except BaseException as error:
            self.failed(error)
            raise
        return part


class Body(_HttpBody):
    """The body of a response under guard, for threads."""

    __slots__ = ()

    def failed(self, error: BaseException) -> None:
        """End the permits with the error that broke off the body."""
        if isinstance(error, DeadlineExceededError):
            end_out_of_time(self, error)
        super().failed(error)

    def __iter__(self) -> Self:
        if self._iterator is None and self._inner is not None:
            self._iterator = iter(self._inner)
        return self

    def __next__(self) -> bytes:
        iterator = self._iterator
        if iterator is None:
            raise StopIteration
        try:
            part: bytes = next(iterator)
        except StopIteration:
            self._at_end()
            raise
        except BaseException as error:
            self.failed(error)
            raise
        return part

    def close(self) -> None:
        """End the permits, then the connection's use."""
        if self._permits:
            self._closed()
        inner, iterator = self._release()
        if inner is None:
            return
        try:
            close = getattr(iterator, "close", None)
            if close is not None:
                with suppress(ValueError, RuntimeError):  # another thread is reading: it sees the connection end
                    close()
        finally:
            inner.close()


class TimedBody(Body):
    """A body with a time limit for each part."""

    __slots__ = ("_request", "_time")
    _request: Any
    _time: BodyTime | None

    def limit(self, request: Any, time: BodyTime | None) -> None:
        """Limit the time of the body; on a custom transport, the longest wait for any part bounds each read too."""
        self._request, self._time = request, time

    def __next__(self) -> bytes:
        time, iterator = getattr(self, "_time", None), self._iterator
        if time is None or iterator is None:
            return super().__next__()
        part: bytes = time.step().run(self._part_within, iterator, time.longest_wait)
        late = time.late()
        if late is not None:
            raise self._broken(late)
        return part

    def _part_within(self, iterator: Any, seconds: float) -> bytes:
        try:
            return self._next_part(iterator, seconds)
        except StopIteration:
            self._at_end()
            raise
        except BaseException as error:
            late = late_of(error)
            if late is None:
                self.failed(error)
                raise
            raise self._broken(late) from error

    def _next_part(self, iterator: Any, seconds: float) -> bytes:
        extensions = self._request.extensions
        given = narrow_reads(self._request, seconds)
        try:
            part: bytes = next(iterator)
        finally:
            extensions["timeout"] = {} if given is None else given
        return part

    def _broken(self, late: Exception) -> Exception:
        shown = self._translate(late)
        self.failed(shown)
        return shown
