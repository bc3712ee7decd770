"""
What a user writes to a stream, on its way to grpcio: by a detour that does not tie the two together.

grpcio keeps a call alive until it is over, with all that sends its messages. Where messages are written one by one,
that is the object which the user holds: it would never be collected, dropped or not. A queue between the two knows
neither, and the task that fills it is referenced by the two ends of the user's side alone.
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
    Return what to give to grpcio, and the task that the user's side must hold; None: no detour was needed.

    Args:
        messages: The messages of a call: an iterator of the user's, or grpcio's own where they are written.
    """
    code = getattr(messages, "ag_code", None)
    if code is None or code.co_name != "_proxy_writes_as_request_iterator":
        return messages, None
    queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
    task = asyncio.get_running_loop().create_task(_fill(messages, queue))
    with suppress(AttributeError):  # it may be collected while it waits, which is all right
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
    """Begin a generator that the loop knows nothing of: collected with its task, it cannot be closed by another."""
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
