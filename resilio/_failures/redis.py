"""
What the errors of redis-py and valkey-py mean, by class and by the code that the server gave; imports neither.

A pool that is exhausted, a password that is wrong and a command that makes no sense say nothing about the server.

Source: the clients' `_parsers/base.py`, which turns some codes into classes and leaves the others before the text.
"""

from __future__ import annotations

from typing import Any

from resilio._failures.causes import never_connected, no_answer
from resilio.errors import RejectedError

__all__ = ["failing", "momentary", "unsent"]

_PACKAGES = frozenset({"redis", "valkey"})
_LOST = frozenset({"ConnectionError", "TimeoutError"})
_CALLERS = frozenset({"AuthenticationError", "AuthorizationError", "ExternalAuthProviderError"})
_POOL = ("No connection available", "Too many connections")
# The server looked at the command and did not begin it.
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
_IN_A_PIPELINE = "of pipeline caused error: "


def failing(error: Any) -> bool:
    """Return whether the exception says that the server is unwell, and not that the caller or the pool is."""
    classes = _classes(error)
    if not classes:
        return not isinstance(error, RejectedError) and no_answer(error)
    if classes & _CALLERS or _of_the_pool(error, classes):
        return False
    return bool(classes & _LOST) or _unwell(error, classes)


def unsent(error: Any) -> bool:
    """Return whether no command was run: there was no connection, or the server turned away all that it got."""
    classes = _classes(error)
    if not classes:
        return never_connected(error)
    if _IN_A_PIPELINE in str(error):  # the other commands of it may have been run
        return False
    turned_away = _unwell(error, classes) or "TryAgainError" in classes
    return turned_away or _of_the_pool(error, classes) or _was_connecting(error, classes)


def momentary(error: Any) -> bool:
    """Return whether another attempt may succeed where this one did not."""
    return failing(error) or unsent(error)


def _classes(error: BaseException) -> set[str]:
    """Return the names of the client's own classes that the exception is an instance of."""
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
