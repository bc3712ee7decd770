"""Requests to a simulated server, and the errors of its calls."""

from __future__ import annotations

from resilio._native.simulation import Job, Request

__all__ = ["ClientKilled", "Job", "Request", "ServerBusy", "ServerDown", "ServerError", "SimulatedError"]


class SimulatedError(Exception):
    """Base of the errors that a simulated call raises."""


class ServerError(SimulatedError):
    """The server took the request and failed."""


class ServerDown(SimulatedError, ConnectionError):  # noqa: N818 - a state of the server, as seen by callers
    """There is no connection to the server."""


class ClientKilled(SimulatedError):  # noqa: N818 - what has happened to the client
    """The client process was killed before its call had ended."""


class ServerBusy(SimulatedError):  # noqa: N818 - an answer of the server
    """
    The server had no room for the request.

    Attributes:
        retry_after: Seconds after which the server may have room, or None.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
