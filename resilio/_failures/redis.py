"""
Classification of errors of redis-py and valkey-py, by class and by the server's code; imports neither.

An exhausted pool, a wrong password and an invalid command are no evidence about the server.

Source: the clients' `_parsers/base.py`, which turns some codes into classes and leaves the others before the text.
"""

from __future__ import annotations

from typing import Any

from resilio._failures.causes import never_connected, no_answer
from resilio.errors import RejectedError

__all__ = ["failing", "momentary", "refused", "unsent"]

_PACKAGES = frozenset({"redis", "valkey"})
_LOST = frozenset({"ConnectionError", "TimeoutError"})
_CALLERS = frozenset({"AuthenticationError", "AuthorizationError", "ExternalAuthProviderError"})
_POOL = ("No connection available", "Too many connections")
# The server received the command and did not begin it.
_UNWELL = frozenset(
    {
        "BusyLoadingError",
        "ClusterDownError",
        "MasterDownError",
        "OutOfMemoryError",
        "ReadOnlyError",
        "SlotNotCoveredError",
    }
)
_UNWELL_CODES = ("BUSY ", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "max number of clients")
# Of these, one that serves other commands: it has no room for this one, or no replica or disk for what it writes.
_REFUSING = frozenset({"OutOfMemoryError", "TryAgainError"})
_REFUSING_CODES = ("MISCONF", "NOREPLICAS", "max number of clients")
_IN_A_PIPELINE = "of pipeline caused error: "


def failing(error: Any) -> bool:
    """Return True if the exception is a failure of the server, and not of the caller or the pool."""
    classes = _classes(error)
    if not classes:
        return not isinstance(error, RejectedError) and no_answer(error)
    if classes & _CALLERS or _of_the_pool(error, classes):
        return False
    return bool(classes & _LOST) or _unwell(error, classes)


def refused(error: Any) -> bool:
    """Return True if the server is up and has refused the command, though it serves others."""
    classes = _classes(error)
    if not classes or classes & _CALLERS or _of_the_pool(error, classes):
        return False
    if _IN_A_PIPELINE in str(error):  # the other commands of it may have been run
        return False
    return bool(classes & _REFUSING) or str(error).startswith(_REFUSING_CODES)


def unsent(error: Any) -> bool:
    """Return True if no command was run: there was no connection, or the server rejected all commands."""
    classes = _classes(error)
    if not classes:
        return never_connected(error)
    if _IN_A_PIPELINE in str(error):  # the other commands of it may have been run
        return False
    turned_away = _unwell(error, classes) or "TryAgainError" in classes
    return turned_away or _of_the_pool(error, classes) or _was_connecting(error, classes)


def momentary(error: Any) -> bool:
    """Return True if another attempt may succeed."""
    return failing(error) or unsent(error)


def _classes(error: BaseException) -> set[str]:
    """Return the names of the client's own classes among those of the exception."""
    return {cls.__name__ for cls in type(error).__mro__ if cls.__module__.partition(".")[0] in _PACKAGES}


def _of_the_pool(error: BaseException, classes: set[str]) -> bool:
    return "MaxConnectionsError" in classes or ("ConnectionError" in classes and str(error).startswith(_POOL))


def _unwell(error: BaseException, classes: set[str]) -> bool:
    answer = str(error).rpartition(_IN_A_PIPELINE)[2]
    return bool(classes & _UNWELL) or answer.startswith(_UNWELL_CODES)


def _was_connecting(error: BaseException, classes: set[str]) -> bool:
    text = str(error)
    return bool(classes & _LOST) and (
        (text.startswith("Error ") and " connecting to " in text) or text.startswith("Timeout connecting")
    )
