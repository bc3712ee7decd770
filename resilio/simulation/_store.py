"""The store of a fleet, and its faults on a scenario's schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import attrs

from resilio._options.fields import option
from resilio._options.validators import choice, flag, fraction, number, positive_int, seconds
from resilio.simulation._checks import instance, numbers_of
from resilio.simulation._faults import Fault
from resilio.simulation._laws import Constant, Law

__all__ = ["OF_STORE", "Evict", "Failover", "Partition", "Store", "StoreClock", "StoreDown", "StoreSlow"]

_MODES = ("refuse", "hang", "buffer")
_SIDES = ("store", "server", "both")


@attrs.frozen(kw_only=True)
class Store:
    """
    The store that all clients share policies of the scope "fleet" through.

    Args:
        rtt: Law of the time of a trip, there and back.

        loss: Probability that a message is lost, of each direction.

        tick: Seconds between two trips of a courier, as of :func:`resilio.sharing.fleet`.

        timeout: Seconds after which a courier gives up a trip, as of :func:`resilio.sharing.fleet`.

        peers: Number of clients or hosts until the store has answered, as of :func:`resilio.sharing.fleet`.

        on_store_down: Rule of policies without one when the store is away, as of :func:`resilio.sharing.fleet`.
    """

    rtt: Law = option(instance(Law, "a law of times, like Constant(0.001)"), default=Constant(mean=0.001))
    loss: float = option(fraction, zero_ok=True, default=0.0)
    tick: float = option(seconds, default=0.25, high=60.0)
    timeout: float = option(seconds, default=0.05, high=60.0)
    peers: int | None = option(positive_int, none_ok=True, default=None)
    on_store_down: str = option(choice, default="local", options=("local", "open", "closed"))


@attrs.frozen(kw_only=True)
class StoreDown(Fault):
    """
    The store does not answer.

    Args:
        mode: "refuse" (no connection, which a courier sees at once), "hang" (messages vanish), or "buffer" (what was
            sent is done at the end, as of a stopped process).
    """

    mode: str = option(choice, default="refuse", options=_MODES)


@attrs.frozen(kw_only=True)
class StoreSlow(Fault):
    """
    The store takes longer.

    Args:
        seconds: Added to the time of each trip, > 0.
    """

    seconds: float = option(seconds)


@attrs.frozen(kw_only=True)
class StoreClock(Fault):
    """
    The store's clock is wrong during the fault: it steps at the beginning, and back at the end.

    Args:
        seconds: Added to its time; below zero, its clock steps back.
    """

    seconds: float = option(number, low=-86_400.0, high=86_400.0)


@attrs.frozen(kw_only=True)
class Partition(Fault):
    """
    Some clients cannot reach the store, the server, or either.

    Args:
        clients: Indexes of the clients, from 0; None for all.

        side: What they cannot reach: "store" (their messages vanish), "server" (their attempts fail with `ServerDown`),
            or "both".

        two_masters: Whether they reach a store of their own instead, with what was in the store at the beginning, and
            whose changes are lost at the end.
    """

    clients: int | Sequence[int] | None = option(numbers_of("client"), default=None)
    side: str = option(choice, default="store", options=_SIDES)
    two_masters: bool = option(flag, default=False)

    def keeps(self, client: int, side: str) -> bool:
        """Return True if it keeps this client from the "store" or the "server"."""
        return self.side in (side, "both") and (self.clients is None or client in cast("tuple[int, ...]", self.clients))


@attrs.frozen(kw_only=True)
class Failover(Fault):
    """
    The store is away; then a replica takes over, which has not seen the last changes.

    Args:
        loses: Seconds of changes before the fault that the replica lacks, >= 0.
    """

    loses: float = option(seconds, zero_ok=True, default=0.0)


@attrs.frozen(kw_only=True)
class Evict(Fault):
    """The store loses all that it holds, at the beginning of the fault."""

    lasts: float = option(seconds, zero_ok=True, default=0.0)


OF_STORE = (Evict, Failover, Partition, StoreClock, StoreDown, StoreSlow)
"""The faults that the store sees."""
