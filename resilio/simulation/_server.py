"""The service of a scenario: its replicas, their queues, and the zones that they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs

from resilio._options.fields import option
from resilio._options.validators import choice, flag, fraction, positive_int, reject, seconds
from resilio.simulation._checks import instance, names
from resilio.simulation._laws import Law
from resilio.simulation._queues import QUEUES, Queue

if TYPE_CHECKING:
    from resilio.simulation._faults import AtServers

__all__ = ["Server", "block", "queue_maker"]

BALANCES = ("random", "round_robin", "least", "two", "key")
T = TypeVar("T")


def block(number: int, total: int, values: Sequence[T] | None) -> T | None:
    """Return the value of one of `total` things that are divided among the values in order; None without values."""
    return values[number * len(values) // total] if values else None


def _levels(name: str, value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not value:
        reject(name, value, "a list of one or more levels, like [0, 0, 1]", TypeError)
    return tuple(positive_int(f"{name}[{number}]", each, zero_ok=True) for number, each in enumerate(value))


def queue_maker(name: str, value: Any) -> Callable[[], Queue]:
    """Return the function that makes a replica's queue, or reject the option."""
    if isinstance(value, str):
        return QUEUES[choice(name, value, QUEUES)]
    if not callable(value):
        reject(name, value, "'fifo', 'lifo', or a function that makes a queue", TypeError)
    return cast("Callable[[], Queue]", value)


@attrs.frozen(kw_only=True)
class Server:
    """
    The service that is called: replicas with workers, each replica with its own queue.

    Args:
        service: Law of the time that a worker needs for a request.

        workers: Number of concurrent requests of one replica.

        replicas: Number of replicas.

        zones: Names of the zones that the replicas are in. They are divided among the zones in order: of 12 replicas in
            three zones, the first four are in the first zone. None: they are in no zone.

        levels: Levels of the replicas in clients' pools, divided in the same way; None: pools go by the zones.

        balance: Choice of the replica for an attempt: "random"; "round_robin"; "least", the one with the fewest
            requests; "two", the one with fewer requests of two random ones; "key", the one that the request's key
            belongs to. All but "key" prefer a replica that the request has not been sent to.

        queue: "fifo", "lifo", or a function that makes a queue for each replica.

        max_queued: Maximum number of requests that wait at a replica, further ones get `ServerBusy`; None: unlimited,
            as sockets are in effect.

        drop_expired: Minimum seconds to the deadline of a request when its turn comes; with less it is not served. 0.0
            drops expired requests; None serves all.

        stops_cancelled: Whether the server stops working on requests that their callers have given up.

        network: Law of the latency of a message in each direction; None: no time.

        same_size: Probability that a retry or hedge of a request takes the same service time as its first attempt.

        deadlines: Whether the deadline of a request reaches the server, and is ambient around the server's policies.
    """

    service: Law = option(instance(Law, "a law of times, like Exponential(0.01)"))
    workers: int = option(positive_int, default=1, high=1_000_000)
    replicas: int = option(positive_int, default=1, high=10_000)
    zones: str | Sequence[str] | None = option(names, default=None)
    levels: Sequence[int] | None = option(_levels, default=None)
    balance: str = option(choice, default="random", options=BALANCES)
    queue: str | Callable[[], Queue] = option(queue_maker, default="fifo")
    max_queued: int | None = option(positive_int, zero_ok=True, none_ok=True, default=None)
    drop_expired: float | None = option(seconds, zero_ok=True, none_ok=True, default=None)
    stops_cancelled: bool = option(flag, default=False)
    network: Law | None = option(instance(Law, "a law of times, like Constant(0.001)", none_ok=True), default=None)
    same_size: float = option(fraction, zero_ok=True, default=0.0)
    deadlines: bool = option(flag, default=False)

    def __attrs_post_init__(self) -> None:
        for name in ("zones", "levels"):
            if len(getattr(self, name) or ()) > self.replicas:
                reject(name, getattr(self, name), f"at most replicas={self.replicas} values")

    def zone_of(self, replica: int) -> str | None:
        """Return the zone of the replica with this index, or None."""
        return block(replica, self.replicas, cast("tuple[str, ...] | None", self.zones))

    def level_of(self, replica: int) -> int | None:
        """Return the level of the replica with this index, or None."""
        return block(replica, self.replicas, self.levels)

    def check_place(self, name: str, fault: AtServers) -> None:
        """Raise a ValueError if the fault, called `name`, affects replicas or zones that there are not."""
        replicas = cast("tuple[int, ...]", fault.replicas or ())
        if any(number >= self.replicas for number in replicas):
            reject(f"{name}.replicas", replicas, f"numbers below the server's replicas={self.replicas}")
        if set(fault.zones or ()) - set(self.zones or ()):
            known = ", ".join(map(repr, self.zones)) if self.zones else "none"
            reject(f"{name}.zones", fault.zones, f"zones of the server: {known}")

    def new_queue(self) -> Queue:
        """Return a queue for a replica."""
        return cast("Callable[[], Queue]", self.queue)()
