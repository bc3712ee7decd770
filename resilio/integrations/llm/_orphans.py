"""
Generators whose reader is gone: kept apart from it, and closed by the event loop that they belong to.

If a reader and what it reads from were collected together, every generator among them would be finalised at once, async
ones each by a task of its own, and those that close one another would clash. So only the reader is collected; it has a
key to what it reads from, and leaves that here to be closed, in order, from the outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Any

from resilio import _backends
from resilio._policy.streams import Abandoned

__all__ = ["close_later", "get", "keep", "release"]

Items = AsyncGenerator[bytes, None] | Generator[bytes, None, None]

_kept: dict[object, tuple[Any, Any]] = {}
_closing: set[asyncio.Task[None]] = set()


def keep(items: Items) -> object:
    """Keep a generator for a reader in the current task, or thread; return the key."""
    key = object()
    _kept[key] = items, _home() if isinstance(items, AsyncGenerator) else None
    return key


def _home() -> Any:
    if not _backends.use_trio():
        return asyncio.get_running_loop()
    import trio

    return trio.lowlevel.current_trio_token()


def get(key: object) -> Any:
    """Return what a key stands for; None once it was let go."""
    kept = _kept.get(key)
    return None if kept is None else kept[0]


def release(key: object) -> Any:
    """Let go of it, and return it."""
    kept = _kept.pop(key, None)
    return None if kept is None else kept[0]


def close_later(key: object) -> bool:
    """
    Have it closed by its event loop, or close it; False if it was let go already. For finalisers: never raises.

    Where the loop is gone there is nothing left to wait for: what it holds goes back as it is dropped.
    """
    kept = _kept.pop(key, None)
    if kept is None:
        return False
    items, home = kept
    with suppress(Exception, Abandoned):  # a loop that is closed; nobody is there to be told of anything else
        if home is None:
            items.throw(Abandoned())
        elif isinstance(home, asyncio.AbstractEventLoop):
            home.call_soon_threadsafe(_begin_to_close, home, items)
        else:
            home.run_sync_soon(_begin_in_trio, items)
    return True


def _begin_to_close(loop: asyncio.AbstractEventLoop, items: AsyncGenerator[bytes, None]) -> None:
    task = loop.create_task(_close(items))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _begin_in_trio(items: AsyncGenerator[bytes, None]) -> None:
    import trio

    trio.lowlevel.spawn_system_task(_close, items)


async def _close(items: AsyncGenerator[bytes, None]) -> None:
    with suppress(Exception, Abandoned):  # nobody is there to be told
        await items.athrow(Abandoned())
