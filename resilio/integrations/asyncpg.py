"""
Connections and transactions of an asyncpg pool with a bounded cleanup, even if the database does not answer.

Why: after a cancellation asyncpg asks the database to stop, on a connection of its own, and then rolls back and resets.
If the database does not answer, `pool.fetchval(...)`, `connection.transaction()` and the release wait without a limit,
and so does every timeout around them. When not: for connections without a pool. What it is not: a policy. Guard the
function that holds the whole transaction, and let callers wait in a `bulkhead(pool.get_max_size(), ...)`, not the pool.

It does not import asyncpg but receives a pool.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from resilio._context.deadline import remaining
from resilio._options.validators import reject, seconds
from resilio._policy.types import Time

__all__ = ["Borrowed", "connection", "transaction"]


def connection(pool: Any, *, cleanup: Time = 1.0) -> Borrowed:
    """
    Return a block, for `async with`, with a connection of the pool.

    Args:
        pool: A pool of asyncpg.
        cleanup: Most seconds, > 0, for cancelling and resetting at the end, before the connection is cut; half of what
            the deadline leaves if that is less.

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
        cleanup: Most seconds, > 0, for rolling back, and again for resetting, before the connection is cut. A commit
            is bounded by the caller's own timeouts only. Half of what the deadline leaves if that is less.
        options: Options of `Connection.transaction`: isolation, readonly, deferrable.

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
            reject("pool", pool, "a pool of asyncpg", TypeError)
        self._pool = pool
        self._cleanup: float = seconds("cleanup", cleanup)
        self._options = options
        self._connection: Any = None
        self._transaction: Any = None
        self._entered = False

    async def __aenter__(self) -> Any:
        if self._entered:  # else both exits would release the same connection, and the other would leak
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
            await asyncio.wait_for(self._transaction.rollback(), self._patience())
        except TimeoutError:
            self._connection.terminate()  # a closed connection is released without a wait
        except Exception:
            if not self._gone():
                raise

    async def _give_back(self) -> None:
        """Release the connection; errors of a connection that is already closed are ignored."""
        try:
            await self._pool.release(self._connection, timeout=self._patience())
        except Exception:
            if not self._gone():
                raise
        finally:
            self._entered = False

    def _patience(self) -> float:
        """Seconds for a step of the cleanup: at most half of what the deadline leaves, so the call ends before it."""
        left = remaining()
        return self._cleanup if left is None or left <= 0.0 else min(self._cleanup, left / 2)

    def _gone(self) -> bool:
        try:
            return bool(self._connection.is_closed())
        except Exception:  # noqa: BLE001 - the pool has taken it back
            return True
