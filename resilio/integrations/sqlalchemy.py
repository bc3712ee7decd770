"""
A bulkhead in front of a pool of SQLAlchemy, and the caller's deadline for the database.

Why: a wait in the pool itself has no order, no bound on the queue, and outlasts the caller's deadline; its timeout
counts as a failure of the database. A thread that waits for a query cannot be interrupted: only the database ends it.
When not: for pools without a size (NullPool). What it is not: a policy for transactions. Guard the function that holds
a whole transaction with `standard(..., on="database")`: a transaction is repeated as a whole or not at all.
"""

from __future__ import annotations

import math
from typing import Any

from resilio._context.deadline import remaining
from resilio._failures.sql import sqlstate_of
from resilio._native.core import phase
from resilio._options.validators import reject, seconds
from resilio._policies.bulkhead.policy import Bulkhead, bulkhead
from resilio._policy.types import Time
from resilio._support.extras import missing
from resilio.errors import DeadlineExceededError
from resilio.integrations._shared.lent import alarm, cut_of, patience, task_loan

try:
    from sqlalchemy import Engine, event
    from sqlalchemy.engine import Connection, ExceptionContext
except ImportError as _error:
    raise missing("sqlalchemy", "sqlalchemy", _error) from _error

__all__ = ["pool_bulkhead", "pool_capacity", "send_deadline", "time_connects"]

_CANCELED = "57014"
_LOAN = "resilio.loan"
_MOST_MILLISECONDS = 2**31 - 1


def pool_capacity(engine: Any) -> int:
    """
    Return the maximum number of connections of the engine's pool.

    Args:
        engine: An Engine or an AsyncEngine.

    Raises:
        TypeError: No engine, or one whose pool has no size.
        ValueError: A pool whose overflow is unlimited.
    """
    pool: Any = _engine(engine).pool
    overflow = getattr(pool, "_max_overflow", 0)
    if not callable(getattr(pool, "size", None)):
        reject("engine", engine, f"an engine whose pool has a size, as QueuePool, not {type(pool).__name__}", TypeError)
    if overflow < 0:
        reject("engine", engine, "an engine with a limited max_overflow")
    return int(pool.size()) + int(overflow)


def pool_bulkhead(
    engine: Any, *, name: str, max_queued: int = 100, max_wait: Time = 1.0, enforce: float = True
) -> Bulkhead:
    """
    Return a bulkhead as wide as the engine's pool, so that no caller waits in the pool itself.

    This holds if all uses of the engine pass it, and each call takes one connection at a time. It is the process's, as
    the pool is.

    Args:
        engine: An Engine or an AsyncEngine.
        name: Name of the bulkhead.
        max_queued: Most callers that wait for a connection, >= 0.
        max_wait: Most seconds that each of them waits.
        enforce: As for :func:`resilio.bulkhead`.

    Raises:
        TypeError: No engine, or one whose pool has no size.
        ValueError: A pool whose overflow is unlimited, or an option out of range.
    """
    wait = max_wait if max_queued else None
    options: dict[str, Any] = {"max_queued": max_queued, "max_wait": wait, "name": name, "enforce": enforce}
    return bulkhead(pool_capacity(engine), scope="process", **options)


def send_deadline(engine: Any, *, most: Time | None = None, cleanup: Time = 1.0) -> None:
    """
    Let PostgreSQL end statements that would outlast the caller's deadline, also for callers in threads.

    A transaction begins with `SET LOCAL statement_timeout`, which takes a round trip; a statement after the deadline is
    not sent. A statement that the database ended at the deadline raises DeadlineExceededError. AUTOCOMMIT has no such
    setting. If the database does not answer at all, the connection is cut (asyncpg, psycopg, psycopg2);
    a thread's driver that cannot be cut is named in the log, once.

    Args:
        engine: An Engine or an AsyncEngine, for PostgreSQL.
        most: Upper bound on a statement's time in seconds, also without a deadline; None: no bound.
        cleanup: Most seconds, > 0, before the connection is cut. For a task after its cancellation, and less before a
            deadline; for a thread after the deadline that holds at the checkout.

    Raises:
        TypeError: No engine, or one of another database.
        ValueError: `most` or `cleanup` is out of range.
    """
    inner, cap = _engine(engine), seconds("most", most, none_ok=True)
    if inner.dialect.name != "postgresql":
        reject("engine", engine, "an engine for PostgreSQL", TypeError)
    _cut_late(inner, seconds("cleanup", cleanup))

    def bound(connection: Connection) -> None:
        allowed = _smaller(remaining(), cap)
        if allowed is not None and allowed > 0.0:
            milliseconds = min(math.ceil(allowed * 1e3), _MOST_MILLISECONDS)
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")

    event.listen(inner, "begin", bound)
    event.listen(inner, "before_cursor_execute", _reject_late)
    event.listen(inner, "handle_error", _name_the_deadline)


def time_connects(engine: Any) -> None:
    """
    Record the time that the engine takes to connect as `connect` in the ledger of the current call.

    Args:
        engine: An Engine or an AsyncEngine.

    Raises:
        TypeError: No engine.
    """
    inner = _engine(engine)
    # Two events, rather than connecting in one: only the first listener that connects itself is called.
    event.listen(inner, "do_connect", lambda *_: phase("connect"))
    event.listen(inner, "connect", lambda *_: phase(None), insert=True)


def _cut_late(engine: Engine, cleanup: float) -> None:
    """Cut connections whose tasks are cancelled, or whose threads' deadlines have passed, for `cleanup` seconds."""

    def connected(_: Any, record: Any) -> None:
        """Bound psycopg's request to cancel, for which it waits 5 s if the server accepts no connection."""
        driver = record.driver_connection
        cancel = getattr(driver, "cancel_safe", None)
        if cancel is not None:
            driver.cancel_safe = lambda *, timeout=30.0: cancel(timeout=min(timeout, patience(cleanup)))

    def lent(_: Any, record: Any, __: Any) -> None:
        driver = record.driver_connection
        loan = task_loan(cut_of(driver), cleanup) if engine.dialect.is_async else alarm(driver, cleanup)
        if loan is not None:
            record.record_info[_LOAN] = loan

    def returned(_: Any, record: Any) -> None:
        loan = record.record_info.pop(_LOAN, None)
        if loan is not None:
            loan.end()

    if engine.dialect.is_async:
        event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", lent)
    event.listen(engine, "checkin", returned)


def _smaller(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _is_past() -> bool:
    left = remaining()
    return left is not None and left <= 0.0


def _reject_late(*_: Any) -> None:
    if _is_past():
        raise DeadlineExceededError(remaining=0.0)


def _name_the_deadline(context: ExceptionContext) -> None:
    error = context.original_exception
    ended = context.is_disconnect or sqlstate_of(error) == _CANCELED
    if ended and isinstance(error, Exception) and _is_past():  # a cancellation stays one
        raise DeadlineExceededError(remaining=0.0) from error


def _engine(engine: Any) -> Engine:
    inner = getattr(engine, "sync_engine", engine)
    if not isinstance(inner, Engine):
        reject("engine", engine, "an Engine or an AsyncEngine of SQLAlchemy", TypeError)
    return inner
