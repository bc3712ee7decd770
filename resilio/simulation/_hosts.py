"""Hosts: memory that client processes share, as real ones do, and the processes' places in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from resilio._options.scope import group_here
from resilio.simulation._couriers import SimulatedCourier

if TYPE_CHECKING:
    from resilio._native.shared import Member, Region
    from resilio.sharing import Host as Group
    from resilio.sharing._fleet.fleet import Fleet
    from resilio.simulation._stores import SimulatedStore
    from resilio.simulation._tasks import Send

__all__ = ["SCOPES", "Host", "Place", "client_fleet"]

SCOPES = ("process", "host", "fleet")
SIZE = 16 << 20  # bytes of a host's memory, which are not there before they are used

_fleet_here: ContextVar[Callable[[], Fleet] | None] = ContextVar("fleet of a simulated process", default=None)


def client_fleet() -> Fleet:
    """
    Return the fleet of the client whose policies are being made: the scope of those that all clients share.

    Raises:
        RuntimeError: Called outside of a simulation.
    """
    join = _fleet_here.get()
    if join is None:
        raise RuntimeError("client_fleet() belongs into the function of a Stack that makes a client's policies")
    return join()


class Host:
    """One simulated host. It has no memory before the first policy that is shared."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._region: Region | None = None

    @property
    def region(self) -> Region:
        """The memory, of this process alone: the same as that of real hosts, but for the file."""
        from resilio._native.shared import Region

        if self._region is None:
            self._region = Region.private(SIZE)
            self._region.member.leave()  # the simulating process is none of the host's
        return self._region

    def start(self, store: SimulatedStore | None = None, client: int = 0) -> Place:
        """
        Return the place of a process that starts.

        Args:
            store: The store of its fleet; None: it has none, and the policies are only made to be checked.

            client: The index of the process.
        """
        return Place(self, store, client)

    def look(self) -> None:
        """Let the couriers of all processes go to the store, if a policy wants to."""
        for place in self.places:
            place.go()

    def bury(self, place: Place) -> None:
        """Free what a dead process holds, as others do that find it dead; what it did for all, another one does."""
        if place.member is not None:
            place.member.leave()
            self.places.remove(place)
            for other in self.places:
                other.beat()
            self.look()


class Place:
    """
    The place of one process on a host: what the policies made `here` with a wider scope share with others.

    Attributes:
        member: Its slot in the host's memory; None before its first policy that is shared.

        courier: Its courier; None before its first policy of the scope "fleet".
    """

    trouble = None

    def __init__(self, host: Host, store: SimulatedStore | None, client: int) -> None:
        self._host = host
        self._store = store
        self._client = client
        self._fleet: Fleet | None = None
        self.courier: SimulatedCourier | None = None
        self._group: Group | None = None
        self.member: Member | None = None

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make the policies of this process within the block."""
        token, of_fleet = group_here.set(self._join), _fleet_here.set(self._join_fleet)
        try:
            yield
        finally:
            group_here.reset(token)
            _fleet_here.reset(of_fleet)

    def _join(self) -> Group:
        from pathlib import Path

        from resilio.sharing import Host as Group

        if self._group is None:
            self.member = self._host.region.join()
            self._host.places.append(self)
            self._group = Group("simulated", Path("/"), 1, SIZE, region=cast("Region", self))
        return self._group

    def _join_fleet(self) -> Fleet:
        from resilio.sharing._fleet.engines.memory import MemoryEngine
        from resilio.sharing._fleet.fleet import Fleet

        if self._fleet is None:
            options: dict[str, Any] = {} if self._store is None else self._store.options
            self._fleet = Fleet("simulated", MemoryEngine(), group=self._join(), is_stepped=True, **options)
            if self._store is not None:
                self.courier = SimulatedCourier(self._fleet.courier, self._store, self._client)
        return self._fleet

    def watched(self, send: Send) -> Send:
        """Return the same function; with a fleet, the process looks at its bell after the beginning and the end."""
        if self._store is None or self.courier is None:
            return send
        soon, look = self._store.loop.call_soon, self.look

        async def watched(*request: Any) -> None:
            soon(look)
            try:
                await send(*request)
            finally:
                soon(look)

        return watched

    def die(self) -> None:
        """Make no more trips."""
        if self.courier is not None:
            self.courier.stop()

    def look(self) -> None:
        """Let the couriers of the host go to the store if a policy of this process has rung, or begins."""
        if self.courier is not None and self.courier.is_rung:
            self._host.look()

    def go(self) -> None:
        """Let the courier of this process go to the store, if a policy wants to."""
        if self.courier is not None:
            self.courier.look()

    def cell(self, kind: int, name: str, stock: bytes, size: int, *, grow: int = 0) -> Any:  # noqa: ARG002 - it need not
        """Return the cell of a policy, for the use of this process."""
        return self._host.region.cell(kind, name, stock, size, self.member)

    @property
    def size(self) -> int:
        """The bytes of the host's memory."""
        return self._host.region.size

    @property
    def used(self) -> int:
        """The bytes in use."""
        return self._host.region.used

    def cells(self) -> Any:
        """Return the cells of the host's memory: kind, name, stock and size of each cell."""
        return self._host.region.cells()

    def beat(self) -> None:
        """Beat for the living process, and take the roles that no living one has."""
        if self.member is not None:
            self.member.beat()
