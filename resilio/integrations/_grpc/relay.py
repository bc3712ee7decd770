"""
A queue between a caller that writes messages and grpcio, so that grpcio does not keep the caller's object alive.

grpcio keeps a call alive until its end, with the source of its messages. If messages are written one by one, that
source is the caller's own object, which would never be collected, even if dropped. The queue refers to neither side,
and the task that fills it is referenced only from the caller's side.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

__all__ = ["detour"]

_END = object()


def detour(messages: Any) -> tuple[Any, asyncio.Task[None] | None]:
    """
    Return the messages for grpcio, and the task that the caller's side must hold; None: no queue was needed.

    Args:
        messages: The messages of a call: the caller's iterator, or grpcio's own if they are written.
    """
    code = getattr(messages, "ag_code", None)
    if code is None or code.co_name != "_proxy_writes_as_request_iterator":
        return messages, None
    queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
    task = asyncio.get_running_loop().create_task(_fill(messages, queue))
    with suppress(AttributeError):  # collecting it while it waits is harmless
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    return _Detour(queue), task


async def _fill(messages: AsyncIterator[Any], queue: asyncio.Queue[Any]) -> None:
    step = _first(messages)
    with suppress(StopAsyncIteration):
        while True:
            await queue.put(await step)
            step = messages.__anext__()
    await queue.put(_END)


def _first(messages: AsyncIterator[Any]) -> Any:
    """Begin a generator without the loop's hooks: it is collected with its task, so no other task can close it."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return messages.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


class _Detour(AsyncIterator[Any]):
    """The queue's messages."""

    __slots__ = ("_queue",)

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue

    async def __anext__(self) -> Any:
        message = await self._queue.get()
        if message is _END:
            raise StopAsyncIteration
        return message
