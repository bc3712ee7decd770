"""The place of a client whose policies are being made: its zone, and the replicas that it may choose from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random

import attrs

from resilio.simulation._laws import Constant
from resilio.simulation._server import Server

__all__ = ["ClientPlace", "client_place", "made_at", "nowhere"]


@attrs.frozen
class ClientPlace:
    """
    Where a client is.

    Attributes:
        server: The service that it calls.

        zone: Its zone, or None.

        random: Source of random numbers for its choices.
    """

    server: Server
    zone: str | None
    random: Random


_place: ContextVar[ClientPlace | None] = ContextVar("place of a simulated client", default=None)


@contextmanager
def made_at(place: ClientPlace) -> Iterator[None]:
    """Make the policies of a client within the block."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def nowhere() -> ClientPlace:
    """Return a place for policies that are only made to check their options."""
    return ClientPlace(Server(service=Constant(1.0), replicas=2), None, Random(0))  # noqa: S311 - for no secret


def client_place(what: str) -> ClientPlace:
    """
    Return the place of the client whose policies are being made.

    Args:
        what: What needs it, for the message.

    Raises:
        RuntimeError: Called outside of a simulation.
    """
    place = _place.get()
    if place is None:
        raise RuntimeError(f"{what} belongs into the function of a Stack that makes a client's policies")
    return place
