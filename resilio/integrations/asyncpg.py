"""
Connections and transactions of an asyncpg pool with a bounded cleanup, even if the database does not answer.

Why: after a cancellation asyncpg asks the database to stop, on a connection of its own, and then rolls back and resets.
If the database does not answer, `pool.fetchval(...)`, `connection.transaction()` and the release wait without a limit,
and so does every timeout around them. `cut_late` ends them in a whole pool; blocks end their own. When not: for
connections without a pool. What it is not: a policy. Guard the function that holds the whole transaction, and let
callers wait in a `bulkhead(pool.get_max_size(), ...)`, not the pool.

It does not import asyncpg but receives a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any

from resilio._options.validators import reject, seconds
from resilio._policy.types import Time
from resilio.integrations._shared.lent import patience, task_loan

__all__ = ["Borrowed", "connection", "cut_late", "transaction"]

_CAN_BE_CUT = (0, 32)
"""The version from which waits for the answer to a request to cancel end with the connection."""


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


def cut_late(*, cleanup: Time = 1.0) -> Callable[[Any], Awaitable[None]]:
    """
    Return a `setup` for `asyncpg.create_pool`, with which every use of the pool ends: its shorthands too.

    A connection is cut once the task that acquired it has been cancelled for `cleanup` seconds, by a timeout, a
    deadline or any other caller. All waits for it end then, those of rollbacks and savepoints too.

    Args:
        cleanup: Most seconds, > 0, for cancelling, rolling back and resetting, before the connection is cut; less
            before a deadline, so that the call ends before it.

    Raises:
        RuntimeError: asyncpg is older than 0.32: it waits for a connection that is cut all the same.
        TypeError: `cleanup` is no time.
        ValueError: `cleanup` is out of range.
    """
    allowed: float = seconds("cleanup", cleanup)
    found = version("asyncpg")
    if tuple(map(int, found.split(".")[:2])) < _CAN_BE_CUT:
        raise RuntimeError(
            f"cut_late needs asyncpg 0.32, not {found}: use connection() and transaction() of this module"
        )

    async def setup(lent: Any) -> None:
        task_loan(partial(_terminate, lent), allowed, partial(_is_back, lent))

    return setup


def _terminate(lent: Any) -> None:
    with suppress(Exception):  # the pool has taken it back
        lent.terminate()


def _is_back(lent: Any) -> bool:
    """Return True if the pool has taken a connection back: asyncpg raises then. The next task gets another object."""
    try:
        lent.is_closed()
    except Exception:  # noqa: BLE001 - asyncpg's InterfaceError
        return True
    return False


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
            await asyncio.wait_for(self._transaction.rollback(), patience(self._cleanup))
        except TimeoutError:
            self._connection.terminate()  # a closed connection is released without a wait
        except Exception:
            if not self._gone():
                raise

    async def _give_back(self) -> None:
        """Release the connection; errors of a connection that is already closed are ignored."""
        try:
            await self._pool.release(self._connection, timeout=patience(self._cleanup))
        except Exception:
            if not self._gone():
                raise
        finally:
            self._entered = False

    def _gone(self) -> bool:
        return _is_back(self._connection) or bool(self._connection.is_closed())
