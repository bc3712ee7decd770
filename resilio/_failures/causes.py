"""What an exception of any client says by its class, its name and its causes, without an import of that client."""

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
        "ConnectionNotAvailable",  # httpcore's own, which its clients let out where GOAWAY comes in a body
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
# What asyncio and trio say of a name with several addresses of which none could be connected to: a plain OSError.
_NO_ADDRESS = ("Connect call failed", "all attempts to connect")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """
    Yield an exception and what it came from, innermost last; ends in a circle too.

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
    Return whether a class of the exception, or of one of its causes, is called by one of these names.

    Args:
        error: An exception.
        names: Names of classes, without their modules.
    """
    return any(cls.__name__ in names for one in causes(error) for cls in type(one).__mro__)


def never_connected(error: Any) -> bool:
    """
    Return whether the exception itself says that there was no connection to send anything on.

    Args:
        error: An exception.
    """
    if isinstance(error, (ConnectionRefusedError, socket.gaierror)):
        return True
    return isinstance(error, OSError) and any(words in str(error) for words in _NO_ADDRESS)


def no_answer(error: Any) -> bool:
    """
    Return whether the exception says that a connection, or the answer on it, failed; a refusal of a policy does not.

    Args:
        error: An exception.
    """
    if isinstance(error, RejectedError):
        return False
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror)) or never_connected(error):
        return True
    return (isinstance(error, OSError) and error.errno in _UNREACHABLE) or named(error, TRANSPORT_NAMES)
