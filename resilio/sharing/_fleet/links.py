"""The ties between policies and their fleet: a cell in memory, a tie that the courier asks, and the host in front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from resilio._native import clock
from resilio._native.shared import Cell, Region
from resilio.sharing._fleet.ties import tie_of
from resilio.sharing._links import Link, Wanted

if TYPE_CHECKING:
    from resilio._policy.snapshot import Sharing
    from resilio.sharing._fleet.tie import Tie

__all__ = ["FleetLink"]


class FleetLink(Link):
    """
    The tie of one policy to its fleet. Its cell is in the memory of the host, where that is shared, else the process's.

    Attributes:
        fleet: The fleet.

        front: What its gate has asked for to be the host's, in front of the fleet's state; None: nothing.

        tie: What the courier asks; None: the policy is the process's own.
    """

    __slots__ = ("fleet", "front", "tie")

    def __init__(self, fleet: Any) -> None:
        """Tie a policy to its fleet."""
        super().__init__(fleet.group)
        self.fleet: Any = fleet
        self.front: Wanted | None = None
        self.tie: Tie | None = None

    def is_of(self, scope: Any) -> bool:
        """Return True if it ties to this fleet."""
        return self.fleet is scope

    def is_settled(self, policy: Any) -> bool:
        """Return True if the policy's options ask for what it has."""
        gate = policy._sharing_gate()
        return bool(self.wanted == gate.fleet_cell_wanted() and self.front == _front_of(gate))

    def give(self, policy: Any, region: Region | None) -> None:
        """Give the policy its cell of this region, or of the process's own; if it is untied, its own state."""
        gate = policy._sharing_gate()
        wanted: Wanted = gate.fleet_cell_wanted()
        self.trouble: str | None = None
        self.wanted: Wanted | None = wanted
        if self.tie is not None:
            self.fleet.courier.remove(self.tie)
            self.tie = None
        is_tied = policy._link is self and not self.fleet.is_alone
        cell = self._cell_of(region, policy, wanted) if is_tied else None
        gate.share_fleet(cell)
        self._put_in_front(policy, gate, region if is_tied and self.fleet.has_host else None)
        if cell is not None:
            self.tie = tie_of(wanted[0], policy, gate, cell, self.fleet)
            self.fleet.courier.add(self.tie, clock.now_ns())
            self.fleet.start()

    def _cell_of(self, region: Region | None, policy: Any, wanted: Wanted) -> Cell:
        cell = None if region is None else self.cell_in(region, policy, wanted, policy.name)
        if cell is None:
            kind, stock, size = wanted
            cell = self.fleet.own_region().cell(kind, policy.name, stock, size)
        found: Cell = cell
        return found

    def _put_in_front(self, policy: Any, gate: Any, region: Region | None) -> None:
        """Share with the host what stays in front of the fleet's state; where there is no host, it is the process's."""
        self.front = front = _front_of(gate)
        if front is not None:
            gate.share(None if region is None else self.cell_in(region, policy, front, policy.name))

    def sharing(self) -> Sharing:
        """Return how the policy shares now."""
        sharing: Sharing = self.fleet.sharing(self.tie)
        return sharing

    def sharing_of(self, policy: Any) -> Sharing:
        """Return how the policy shares now, with what all have together: its `_numbers_of_fleet`, if any."""
        sharing = self.sharing()
        return sharing if sharing.degraded else attrs.evolve(sharing, **getattr(policy, "_numbers_of_fleet", dict)())


def _front_of(gate: Any) -> Wanted | None:
    """Return what stays in front of the fleet's state, the process's or the host's; None: nothing does."""
    return gate.cell_wanted() if getattr(gate, "stays_in_front", False) else None
