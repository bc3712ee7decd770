"""
Generators whose reader was garbage-collected, closed by the event loop that they belong to.

A reader holds only a key to its generators, which are kept here. If both were collected together, all generators would
be finalised at once, async ones each in a task of its own. Generators that close one another would then clash. So only
the reader is collected, and its generators are closed in order, from the outermost.
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
    """Return the generator of a key; None after its release."""
    kept = _kept.get(key)
    return None if kept is None else kept[0]


def release(key: object) -> Any:
    """Release the generator of a key and return it; None if it was released before."""
    kept = _kept.pop(key, None)
    return None if kept is None else kept[0]


def close_later(key: object) -> bool:
    """
    Close the generator of a key, in its event loop if it has one. Return False if it was released before.

    Never raises, so that finalisers can call it. If the loop is closed, the generator is dropped, which returns its
    permits.
    """
    kept = _kept.pop(key, None)
    if kept is None:
        return False
    items, home = kept
    with suppress(Exception, Abandoned):  # a closed loop; no caller is left to receive any other error
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
    with suppress(Exception, Abandoned):  # no caller is left to receive it
        await items.athrow(Abandoned())
