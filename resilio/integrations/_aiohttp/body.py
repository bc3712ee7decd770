"""The body of an aiohttp response under guard: how it ended, or that it was dropped unread."""

from __future__ import annotations

import asyncio
import sys
import weakref
from functools import cache
from typing import Any

from resilio.integrations._aiohttp.blame import out_of_time
from resilio.integrations._aiohttp.lib import aiohttp
from resilio.integrations._shared.held_permits import Lease

__all__ = ["Body"]

SAYS_ALL = 300
"""From this status on, the headers of a response decide its outcome, whether or not its body is read."""

UPGRADED = 101
"""Status of a WebSocket: it ends with its connection, and that is no failure."""


class Body(Lease):
    """
    The permits of a response, until its body has ended, failed, been closed early or been dropped.

    It refers to the response weakly: the event loop refers to the connection, and the connection to this lease.
    """

    __slots__ = ("_content", "_response")

    def __init__(self, response: Any, label: str) -> None:
        """
        Begin to watch a response whose headers have arrived.

        Args:
            response: The response.

            label: Name of the response in the log, if it is abandoned.
        """
        super().__init__(label)
        self._response = weakref.ref(response)
        self._content = response.content
        connection = response.connection
        if connection is None:
            self._released()
        else:
            _forget(response)
            connection.add_callback(self._released)

    def _released(self) -> None:
        """End the lease, now that the connection is released, by the way in which the body ended."""
        error, response, here = self._content.exception(), self._response(), sys.exception()
        if error is not None and type(error) is not aiohttp.ClientConnectionError:
            self.end("failed", error)
        elif self._content.is_eof() and error is None:
            self.end("ended")
        elif out_of_time(response):
            self.end("failure", TimeoutError())
        elif isinstance(here, asyncio.CancelledError):
            self.end("failed", here)
        elif response is not None and (response.status >= SAYS_ALL or response.status == UPGRADED):
            self.end("ended")
        else:
            self.end("abandoned" if error is None else "aborted")


def _forget(response: Any) -> None:
    """
    Make the connection refer to its response weakly.

    The event loop refers to the connection, and the connection to a callback for the body's end: a method of the
    response. So a response that was dropped unread would live, with its permit, until the server ends it.
    """
    callbacks: Any = getattr(response.content, "_eof_callbacks", None)
    ended: Any = getattr(response, "_response_eof", None)
    if callbacks is None or ended not in callbacks:
        return
    callbacks.remove(ended)
    known = weakref.WeakMethod(ended)

    def tell() -> None:
        method = known()
        if method is not None:
            method()

    response.content.on_eof(tell)
    response._resilio_known = sys.getrefcount(response.content)  # no frame of resilio holds it now
    response.__class__ = _droppable(response.__class__)


@cache
def _droppable(kind: Any) -> Any:
    """
    Return a subclass whose responses may be dropped while their content is still read, as in aiohttp itself.

    Args:
        kind: The class of the response: the client's own, or the user's.
    """

    def finalize(self: Any) -> None:
        if sys.getrefcount(self.content) > self._resilio_known:  # a reader holds it
            self.content.on_eof(self._response_eof)
        else:
            kind.__del__(self)

    names = {"__del__": finalize, "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}
    return type(kind.__name__, (kind,), names)
