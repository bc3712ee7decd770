"""
Connections and transactions of an asyncpg pool whose cleanup has an end, whatever has become of the database.

Why: after a cancellation asyncpg asks the database to stop, on a connection of its own, and then rolls back and resets.
If the database does not answer, `pool.fetchval(...)`, `connection.transaction()` and the release wait for it without a
limit, and so does every timeout around them. When not: for connections without a pool. What it is not: a policy. Guard
the function that holds the whole transaction, and let a `bulkhead(pool.get_max_size(), ...)` wait in the pool's place.

It does not import asyncpg; it is given a pool.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from resilio._options.validators import refuse, seconds
from resilio._policy.types import Time

__all__ = ["Borrowed", "connection", "transaction"]


def connection(pool: Any, *, cleanup: Time = 1.0) -> Borrowed:
    """
    Return a block, for `async with`, that has a connection of the pool.

    Args:
        pool: A pool of asyncpg.
        cleanup: Seconds > 0 that cancelling and resetting may take at the end, before the connection is cut.

    Raises:
        TypeError: No pool, or `cleanup` is no time.
        ValueError: `cleanup` is out of range.
    """
    return Borrowed(pool, cleanup, None)


def transaction(pool: Any, *, cleanup: Time = 1.0, **options: Any) -> Borrowed:
    """
    Return a block with a connection of the pool in a transaction, which it commits, or rolls back after an exception.

    Args:
        pool: A pool of asyncpg.
        cleanup: Seconds > 0 that rolling back may take, and resetting as well, before the connection is cut; a commit
            has the time that the caller gives it.
        options: Of `Connection.transaction`: isolation, readonly, deferrable.

    Raises:
        TypeError: No pool, or `cleanup` is no time.
        ValueError: `cleanup` is out of range.
    """
    return Borrowed(pool, cleanup, options)


class Borrowed:
    """A connection from its acquisition to its release, for one `async with` at a time."""

    __slots__ = ("_cleanup", "_connection", "_entered", "_options", "_pool", "_transaction")

    def __init__(self, pool: Any, cleanup: Time, options: dict[str, Any] | None) -> None:
        if not callable(getattr(pool, "acquire", None)) or not callable(getattr(pool, "release", None)):
            refuse("pool", pool, "a pool of asyncpg", TypeError)
        self._pool = pool
        self._cleanup: float = seconds("cleanup", cleanup)
        self._options = options
        self._connection: Any = None
        self._transaction: Any = None
        self._entered = False

    async def __aenter__(self) -> Any:
        if self._entered:  # the connection of one block would be given back by both, and that of the other by none
            raise RuntimeError("a block of a pool is for one task at a time: call the function for each `async with`")
        self._entered = True
        try:
            self._connection = await self._pool.acquire()
        except BaseException:
            self._entered = False
            raise
        if self._options is None:
            return self._connection
        try:
            self._transaction = self._connection.transaction(**self._options)
            await self._transaction.start()
        except BaseException:
            await self._give_back()
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._transaction is not None:
                await (self._roll_back() if kind is not None else self._transaction.commit())
        finally:
            await self._give_back()

    async def _roll_back(self) -> None:
        try:
            await asyncio.wait_for(self._transaction.rollback(), self._cleanup)
        except TimeoutError:
            self._connection.terminate()  # a connection that is closed is released without a wait
        except Exception:
            if not self._gone():
                raise

    async def _give_back(self) -> None:
        """Release the connection; of one that is gone nothing is left to do, and nothing to say."""
        try:
            await self._pool.release(self._connection, timeout=self._cleanup)
        except Exception:
            if not self._gone():
                raise
        finally:
            self._entered = False

    def _gone(self) -> bool:
        try:
            return bool(self._connection.is_closed())
        except Exception:  # noqa: BLE001 - the pool has taken it back
            return True
