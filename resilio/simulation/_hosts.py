"""Hosts: memory that client processes share, as real ones do, and the processes' places in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from resilio._options.scope import group_here

if TYPE_CHECKING:
    from resilio._native.shared import Member, Region
    from resilio.sharing import Host as Group

__all__ = ["SCOPES", "Host", "Place"]

SCOPES = ("process", "host")
SIZE = 16 << 20  # bytes of a host's memory, which are not there before they are used


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

    def start(self) -> Place:
        """Return the place of a process that starts."""
        return Place(self)

    def bury(self, place: Place) -> None:
        """Free what a dead process holds, as others do that find it dead; what it did for all, another one does."""
        if place.member is not None:
            place.member.leave()
            self.places.remove(place)
            for other in self.places:
                other.beat()


class Place:
    """
    The place of one process on a host: what the policies made `here` with the scope "host" share with others.

    Attributes:
        member: Its slot in the host's memory; None before its first policy that is shared.
    """

    trouble = None

    def __init__(self, host: Host) -> None:
        self._host = host
        self._group: Group | None = None
        self.member: Member | None = None

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make the policies of this process within the block."""
        token = group_here.set(self._join)
        try:
            yield
        finally:
            group_here.reset(token)

    def _join(self) -> Group:
        from pathlib import Path

        from resilio.sharing import Host as Group

        if self._group is None:
            self.member = self._host.region.join()
            self._host.places.append(self)
            self._group = Group("simulated", Path("/"), 1, SIZE, region=cast("Region", self))
        return self._group

    def cell(self, kind: int, name: str, stock: bytes, size: int) -> Any:
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
