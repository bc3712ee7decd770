"""What every request of an ASGI app passes, in its quick part."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from typing_extensions import disjoint_base

from resilio._native.core import Permit

__all__ = ["Exchange", "settle"]

@disjoint_base
class Exchange:
    """The permit of one request; what is sent for the app goes through `send`."""

    _receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
    _send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    permit: Permit | None
    started: int
    _streams: bool
    def __init__(
        self,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None: ...
    def send(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        """
        Send for the app, and end the permit with the last byte of the body.

        A body that is short and all there is as good as taken; otherwise the end is when the server has taken it.
        """

def settle(permit: Permit, status: int) -> None:
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""
