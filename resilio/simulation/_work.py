"""What goes to a server, and what comes back where it is no answer."""

from __future__ import annotations

from resilio._native.simulation import Job, Request

__all__ = ["Job", "Request", "ServerBusy", "ServerDown", "ServerError", "SimulatedError"]


class SimulatedError(Exception):
    """What a simulated call raises; the base of the others."""


class ServerError(SimulatedError):
    """The server took the request and failed."""


class ServerDown(SimulatedError, ConnectionError):  # noqa: N818 - a state of the server, as callers see it
    """There is no connection to the server."""


class ServerBusy(SimulatedError):  # noqa: N818 - an answer of the server
    """
    The server had no room for the request.

    Attributes:
        retry_after: Seconds after which it says there may be, or None.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
