"""
Many calls of one function through a bulkhead: each has its permit before its task is made.

The tasks live in a scope of their own, inside the block that reads the results. Any end of the block (the last result,
an exception, a cancellation, a `break`) cancels the remaining tasks and waits until they have ended.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from resilio._native.gates import PATIENT

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    import anyio.abc

    from resilio._native.core import Permit, Pipeline

__all__ = ["BulkheadMap"]

T = TypeVar("T")
R = TypeVar("R")


class BulkheadMap(Generic[R]):
    """
    The results of a function called with every item: `results = await mapped`, or one by one in a block.

        async with limit.map(fetch, urls) as pages:
            async for page in pages:
                ...

    The first exception of a call, or of the items, cancels the calls in flight and is raised unchanged by the next step
    of the iteration.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        fn: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool,
        buffer: int,
    ) -> None:
        """Make the map; the calls begin when the block is entered."""
        self._run = _Run(pipeline, fn, items, ordered, buffer)
        self._group: anyio.abc.TaskGroup | None = None

    def __await__(self) -> Generator[Any, Any, list[R]]:
        """Return all results as a list."""
        return self._all().__await__()

    async def _all(self) -> list[R]:
        async with self as results:
            return [result async for result in results]

    async def __aenter__(self) -> AsyncIterator[R]:
        """Begin the calls; return the results as an async iterator."""
        import anyio  # only users of `map` pay for it

        if self._group is not None:
            raise RuntimeError("this map has begun already; call map() once for each block")
        group = self._group = anyio.create_task_group()
        self._run.prepare(anyio)
        await group.__aenter__()
        group.start_soon(self._run.drive)
        return _Results(self._run)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel the remaining tasks, and wait until they have ended."""
        if self._group is not None:
            self._run.scope.cancel()
            # The block's own exception is hidden from the group: it passes unchanged, not in a group of one.
            await self._group.__aexit__(None, None, None)

    def __aiter__(self) -> AsyncIterator[R]:
        """Raise a TypeError: without a block the calls would go on when the loop is left early."""
        raise TypeError("map() is read in a block: `async with p.map(fn, items) as results: async for r in results`")


class _Results(Generic[R]):
    def __init__(self, run: _Run[R]) -> None:
        self._run = run

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        """Return the next result; raise the exception that ended the map."""
        run = self._run
        while True:
            if run.error is not None:
                raise run.error
            key = run.ready()
            if key is not None:
                return run.take(key)
            if run.exhausted and run.taken == run.started:
                raise StopAsyncIteration
            await run.changed.wait()


class _Run(Generic[R]):
    """The state of one map: the feeder of items, the calls in flight and the results."""

    changed: anyio.Event
    scope: anyio.CancelScope
    _anyio: ModuleType

    def __init__(
        self, pipeline: Pipeline, fn: Callable[[Any], Awaitable[R]], items: Any, ordered: bool, buffer: int
    ) -> None:
        self._pipeline = pipeline
        self._fn = fn
        self._items = items
        self._ordered = ordered
        self._buffer = buffer
        self._done: dict[int, R] = {}
        self.started = self.taken = 0
        self.exhausted = False
        self.error: Exception | None = None

    def prepare(self, anyio: ModuleType) -> None:
        """Make the objects that need a running event loop."""
        self._anyio = anyio
        self.changed = anyio.Event()
        self.scope = anyio.CancelScope()

    def ready(self) -> int | None:
        """Return the key of the next result, None while there is none."""
        if self._ordered:
            return self.taken if self.taken in self._done else None
        return next(iter(self._done), None)

    def take(self, key: int) -> R:
        """Return a finished result; another call may begin in its place."""
        self.taken += 1
        self._change()
        return self._done.pop(key)

    def _change(self) -> None:
        changed, self.changed = self.changed, self._anyio.Event()
        changed.set()

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.scope.cancel()
        self._change()

    async def drive(self) -> None:
        """Call with every item, and wait until all calls have ended."""
        with self.scope:
            async with self._anyio.create_task_group() as group:
                try:
                    await self._feed(group)
                except Exception as error:  # noqa: BLE001  raised by the next step of the iteration
                    self._fail(error)
                self.exhausted = True
                self._change()

    async def _feed(self, group: anyio.abc.TaskGroup) -> None:
        if isinstance(self._items, AsyncIterable):
            async for item in self._items:
                await self._start(group, item)
        else:
            for item in self._items:
                await self._start(group, item)

    async def _start(self, group: anyio.abc.TaskGroup, item: Any) -> None:
        while self.started - self.taken >= self._buffer:
            await self.changed.wait()
        permit = await self._pipeline.aacquire(PATIENT, item)
        group.start_soon(self._call, self.started, item, permit)
        self.started += 1

    async def _call(self, key: int, item: Any, permit: Permit) -> None:
        if self.error is not None:  # of another call, before this one began
            permit.cancel()
            return
        try:
            result = await self._awaitable(item)
        except BaseException as error:
            permit.raised(error)
            if not isinstance(error, Exception):
                raise
            self._fail(error)
        else:
            permit.returned(result)
            self._done[key] = result
            self._change()

    def _awaitable(self, item: Any) -> Awaitable[R]:
        result = self._fn(item)
        if not inspect.isawaitable(result):
            raise TypeError(f"fn must be an async function, not {self._fn!r}")
        return result
