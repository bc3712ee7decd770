"""
What the errors of SQL databases mean, by SQLSTATE, and by the names and words of drivers where there is none.

Source: PostgreSQL 17 documentation, appendix A, "PostgreSQL Error Codes"; the texts of asyncpg, psycopg and psycopg2.
"""

from __future__ import annotations

from typing import Any

from resilio._failures.causes import UNSENT_NAMES, causes, named, never_connected, no_answer
from resilio.errors import RejectedError

__all__ = ["failing", "momentary", "sqlstate_of", "unsent"]

_DRIVER_NAMES = frozenset(
    {"CannotConnectNowError", "ConnectionDoesNotExistError", "ConnectionError", "OperationalError"}
)
# Connection exception, insufficient resources, operator intervention (57014: a statement timeout), system error.
_UNWELL = frozenset({"08", "53", "57", "58"})
_ROLLED_BACK = frozenset({"40001", "40P01"})
_NEVER_BEGAN = frozenset({"08001", "08004", "53300", "57P03"})
# Nobody waits in the pool of a healthy client; that there is a queue says nothing of the database.
_POOL_NAMES = frozenset({"PoolTimeout", "TooManyRequests"})
_CONNECTING = ("connection failed", "connection to server at", "connection timeout expired", "could not connect")


def sqlstate_of(error: BaseException) -> str | None:
    """
    Return the SQLSTATE of an exception, of a cause, or of what an ORM has inside; None if there is none.

    Args:
        error: An exception of a driver or of an ORM.
    """
    for one in causes(error):
        for holder in (one, getattr(one, "orig", None)):
            for name in ("sqlstate", "pgcode"):
                state = getattr(holder, name, None)
                if isinstance(state, str) and len(state) == 5:
                    return state
    return None


def failing(error: Any) -> bool:
    """Return whether the exception says that the database is unwell, and not that the caller or the pool is."""
    if isinstance(error, RejectedError):
        return False
    state = sqlstate_of(error)
    if state is not None:
        return state[:2] in _UNWELL
    return not _of_the_pool(error) and (no_answer(error) or named(error, _DRIVER_NAMES) or _lost(error))


def unsent(error: Any) -> bool:
    """Return whether nothing was done: there was no connection, or the transaction was rolled back as a whole."""
    state = sqlstate_of(error)
    if state is not None:
        return state in _ROLLED_BACK or state in _NEVER_BEGAN
    return never_connected(error) or named(error, UNSENT_NAMES) or _of_the_pool(error) or _was_connecting(error)


def momentary(error: Any) -> bool:
    """Return whether another attempt may succeed where this one did not."""
    return failing(error) or unsent(error)


def _of_the_pool(error: BaseException) -> bool:
    if named(error, _POOL_NAMES):
        return True
    kind = type(error)
    return kind.__name__ == "TimeoutError" and kind.__module__ == "sqlalchemy.exc"


def _lost(error: BaseException) -> bool:
    """An interface error is the caller's, unless it is how a driver says that the connection had gone."""
    return named(error, frozenset({"InterfaceError"})) and any(
        "connection" in text and "closed" in text for text in map(str, causes(error))
    )


def _was_connecting(error: BaseException) -> bool:
    return any(type(one).__name__ == "OperationalError" and str(one).startswith(_CONNECTING) for one in causes(error))
