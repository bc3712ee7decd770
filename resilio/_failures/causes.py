"""Classification of a client's exceptions by class, name and causes, without an import of that client."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

from resilio.errors import RejectedError

__all__ = ["TIMEOUT_NAMES", "TRANSPORT_NAMES", "UNSENT_NAMES", "causes", "named", "never_connected", "no_answer"]

UNSENT_NAMES = frozenset(
    {
        "ClientConnectorError",
        "ConnectError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionTimeout",
        "ConnectionTimeoutError",
        "NameResolutionError",
        "NewConnectionError",
        "PoolTimeout",
    }
)
TRANSPORT_NAMES = frozenset(
    {
        "APIConnectionError",
        "APITimeoutError",
        "ChunkedEncodingError",
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectionError",
        "ConnectionNotAvailable",  # httpcore's own; its clients let it out if GOAWAY arrives within a body
        "IncompleteRead",
        "ProtocolError",
        "ServerDisconnectedError",
        "Timeout",
        "TransportError",
    }
)
TIMEOUT_NAMES = frozenset({"APITimeoutError", "ServerTimeoutError", "Timeout", "TimeoutException"})
_MOST_CAUSES = 8
_UNREACHABLE = frozenset({errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH})
# Messages of asyncio's and trio's plain OSError if none of a host's several addresses accepts a connection.
_NO_ADDRESS = ("Connect call failed", "all attempts to connect")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """
    Yield an exception and its causes, innermost last; ends on a cycle too.

    Args:
        error: An exception; None yields nothing.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < _MOST_CAUSES:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def named(error: BaseException, names: frozenset[str]) -> bool:
    """
    Return True if a class of the exception, or of one of its causes, has one of these names.

    Args:
        error: An exception.
        names: Names of classes, without their modules.
    """
    return any(cls.__name__ in names for one in causes(error) for cls in type(one).__mro__)


def never_connected(error: Any) -> bool:
    """
    Return True if the exception itself means that no connection was made, so that nothing was sent.

    Args:
        error: An exception.
    """
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return True
    return isinstance(error, OSError) and any(words in str(error) for words in _NO_ADDRESS)


def no_answer(error: Any) -> bool:
    """
    Return True if the exception means that a connection, or the answer on it, failed; False for a policy's rejection.

    Args:
        error: An exception.
    """
    if isinstance(error, RejectedError):
        return False
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)) or never_connected(error):
        return True
    return (isinstance(error, OSError) and error.errno in _UNREACHABLE) or named(error, TRANSPORT_NAMES)
