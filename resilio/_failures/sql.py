"""
Judgement of errors of databases, by SQLSTATE, or without one by drivers' class names, texts and labels.

Source: PostgreSQL 17 documentation, appendix A, "PostgreSQL Error Codes"; the texts of asyncpg, psycopg and psycopg2.
"""

from __future__ import annotations

from typing import Any

from resilio._failures.answer_parts import has_label
from resilio._failures.causes import UNSENT_NAMES, causes, named, never_connected, no_answer
from resilio._failures.server_advice import RETRY, codes_of, rows
from resilio.errors import RejectedError

__all__ = ["failing", "momentary", "refused", "sqlstate_of", "unsent"]

_DRIVER_NAMES = frozenset(
    {"CannotConnectNowError", "ConnectionDoesNotExistError", "ConnectionError", "OperationalError"}
)
# Connection exception, insufficient resources, operator intervention (57014: a statement timeout), system error.
_UNWELL = frozenset({"08", "53", "57", "58"})
_NOTHING_DONE = codes_of("SQL databases")
_NO_ROOM = "53300"
"""Too many connections: the database serves those that it has."""
_LABELS = rows("label", RETRY)
# A full pool is the client's problem: its queue is no evidence about the database.
_POOL_NAMES = frozenset({"PoolTimeout", "TooManyRequests"})
_CONNECTING = ("connection failed", "connection to server at", "connection timeout expired", "could not connect")


def sqlstate_of(error: BaseException) -> str | None:
    """
    Return the SQLSTATE of an exception, of its causes, or of the driver's error inside an ORM's; None if there is none.

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
    """Return True if the exception is a failure of the database, and not of the caller or the pool."""
    if isinstance(error, RejectedError):
        return False
    state = sqlstate_of(error)
    if state is not None:
        return state[:2] in _UNWELL
    return not _of_the_pool(error) and (no_answer(error) or named(error, _DRIVER_NAMES) or _lost(error))


def refused(error: Any) -> bool:
    """Return True if the database is up and had no room: too many connections, or MongoDB's overload."""
    if isinstance(error, RejectedError):
        return False
    return sqlstate_of(error) == _NO_ROOM or _turned_away(error)


def unsent(error: Any) -> bool:
    """Return True if nothing was done: there was no connection, or the whole transaction was rolled back."""
    state = sqlstate_of(error)
    if state is not None:
        return state in _NOTHING_DONE
    return (
        _turned_away(error)
        or never_connected(error)
        or named(error, UNSENT_NAMES)
        or _of_the_pool(error)
        or _was_connecting(error)
    )


def momentary(error: Any) -> bool:
    """Return True if another attempt may succeed."""
    return failing(error) or unsent(error)


def _of_the_pool(error: BaseException) -> bool:
    if named(error, _POOL_NAMES):
        return True
    kind = type(error)
    return kind.__name__ == "TimeoutError" and kind.__module__ == "sqlalchemy.exc"


def _lost(error: BaseException) -> bool:
    """Return True for an interface error that reports a closed connection; any other one is the caller's fault."""
    return named(error, frozenset({"InterfaceError"})) and any(
        "connection" in text and "closed" in text for text in map(str, causes(error))
    )


def _turned_away(error: BaseException) -> bool:
    """Return True if MongoDB was overloaded and did nothing."""
    return any(has_label(error, row.name) for row in _LABELS)


def _was_connecting(error: BaseException) -> bool:
    return any(type(one).__name__ == "OperationalError" and str(one).startswith(_CONNECTING) for one in causes(error))
