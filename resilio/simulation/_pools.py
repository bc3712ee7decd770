"""The replicas of a simulated server as endpoints of its clients' pools."""

from __future__ import annotations

from resilio._policies.pool.endpoint import Endpoint
from resilio.simulation._place import client_place

__all__ = ["client_zone", "endpoints"]


def endpoints() -> tuple[Endpoint, ...]:
    """
    Return the replicas of the server as endpoints, in the function of a `Stack` that makes a client's policies.

    They have the zones and levels of the server, and the label "replica", the index of the replica: calls go there. See
    `client_zone` for a complete example.

    Raises:
        RuntimeError: Called outside of a simulation.
    """
    server = client_place("endpoints()").server
    return tuple(
        Endpoint(f"replica-{number}", zone=server.zone_of(number), level=server.level_of(number), replica=number)
        for number in range(server.replicas)
    )


def client_zone() -> str | None:
    """
    Return the zone of the client whose policies are being made, or None.

    `Stack(client=lambda: [retry(attempts=2), pool("api", *endpoints(), zone=client_zone())])` is a client that chooses
    the replica of each attempt by a pool of its own.

    Raises:
        RuntimeError: Called outside of a simulation.
    """
    return client_place("client_zone()").zone
