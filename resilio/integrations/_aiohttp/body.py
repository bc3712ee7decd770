"""The body of an aiohttp response as the policy sees it: how it ended, and when nobody wants it any more."""

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
"""From this status on the head of a response says what there is to say, whether or not its body is read."""

UPGRADED = 101
"""A WebSocket from here on: it ends when its connection does, and that is no failure."""


class Body(Lease):
    """
    What a response holds until its body has ended, failed, been given up or been dropped.

    It knows the response weakly: the connection, which the event loop knows, knows this.
    """

    __slots__ = ("_content", "_response")

    def __init__(self, response: Any, label: str) -> None:
        """
        Begin to watch a response whose head is there.

        Args:
            response: The response.

            label: What is abandoned, for the log.
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
        """The connection is free: how did it come to that?"""
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
    Have the connection know its response weakly.

    The event loop knows the connection, which knows what is to be told of the body's end: the response. So a response
    that its user has dropped with its body unread would live until the server ends it, and its permit with it.
    """
    told: Any = getattr(response.content, "_eof_callbacks", None)
    ended: Any = getattr(response, "_response_eof", None)
    if told is None or ended not in told:
        return
    told.remove(ended)
    known = weakref.WeakMethod(ended)

    def tell() -> None:
        method = known()
        if method is not None:
            method()

    response.content.on_eof(tell)
    response._resilio_known = sys.getrefcount(response.content)  # no frame of ours holds it now
    response.__class__ = _droppable(response.__class__)


@cache
def _droppable(kind: Any) -> Any:
    """
    Return a class of responses that may be dropped while their content is read on, as without this.

    Args:
        kind: The class of the client's own, or the user's.
    """

    def finalize(self: Any) -> None:
        if sys.getrefcount(self.content) > self._resilio_known:  # somebody reads it
            self.content.on_eof(self._response_eof)
        else:
            kind.__del__(self)

    names = {"__del__": finalize, "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__slots__": ()}
    return type(kind.__name__, (kind,), names)
