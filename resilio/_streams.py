"""
Generators and async generators under guard: the permit lasts from the first `next` to the end of the stream.

The user's generator object is made at the call, as without a guard, so that wrong arguments are told at once; nothing
of it runs before admission. Latency is measured up to the first item. A stream that its consumer closes or drops says
nothing about its producer; the user's generator is closed first, then the permit goes back.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilio._native.core import Pipeline

__all__ = ["async_stream", "stream"]


def stream(pipeline: Pipeline, fn: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
    """Return what a guarded generator function does when it is called."""

    def start(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        return _drive(fn(*args, **kwargs), pipeline, args, kwargs)

    return start


def async_stream(pipeline: Pipeline, fn: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
    """Return what a guarded async generator function does when it is called."""

    def start(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        return _drive_async(fn(*args, **kwargs), pipeline, args, kwargs)

    return start


def _drive(
    inner: Generator[Any, Any, Any], pipeline: Pipeline, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, Any]:
    permit = pipeline.acquire(*args, **kwargs)
    try:
        item = next(inner)
        permit.first_item()
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = inner.throw(error)
            else:
                if sent is None:  # nothing sent: from here on the interpreter delegates, without us between the items
                    value = yield from inner
                    break
                item = inner.send(sent)
    except StopIteration as stop:
        value = stop.value
    except BaseException as error:
        permit.raised(error)
        raise
    permit.success()
    return value


async def _drive_async(
    inner: AsyncGenerator[Any, Any], pipeline: Pipeline, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    permit = await pipeline.aacquire(*args, **kwargs)
    custody = _Custody()
    try:
        item = await custody.first(inner)
        permit.first_item()
        while True:
            try:
                sent = yield item
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the consumer's, for the user's generator
                item = await inner.athrow(error)
            else:
                item = await inner.asend(sent)
    except StopAsyncIteration:
        permit.success()
    except BaseException as error:
        permit.raised(error)
        raise
    finally:
        custody.driven = False


class _Custody:
    """
    Who closes the user's generator: ours, which drives it, and the event loop only once that is over.

    A loop that shuts down closes all generators that it knows at once: closing ours closes the user's, and both at once
    clash. A collector that finds both in one cycle finalises both: ours is closed by the loop and closes the user's,
    which must not have been closed before, out of any loop, where its cleanup cannot await.
    """

    __slots__ = ("_finalizer", "driven")

    def __init__(self) -> None:
        self.driven = True
        self._finalizer: Callable[[AsyncGenerator[Any, Any]], object] | None = None

    def first(self, inner: AsyncGenerator[Any, Any]) -> Any:
        """Begin the user's generator, known to us and not to the loop."""
        hooks = sys.get_asyncgen_hooks()
        self._finalizer = hooks.finalizer
        sys.set_asyncgen_hooks(None, self._finalize)
        try:
            return inner.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def _finalize(self, inner: AsyncGenerator[Any, Any]) -> None:
        if self.driven:
            return
        if self._finalizer is not None:
            self._finalizer(inner)
        else:
            with contextlib.suppress(StopIteration, StopAsyncIteration):  # as the interpreter does without a loop
                inner.aclose().send(None)
