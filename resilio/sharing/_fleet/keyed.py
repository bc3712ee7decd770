"""
The tie of a keyed policy to its fleet: each key has a state of its own, and only keys in use are asked for.

Rate limits and circuit breakers can be shared by key. A key's cell is this process's own and ends with its policy, so
there may be as many as the keyed policy has keys. The processes of a host exchange each for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import ref

import attrs

from resilio._native import clock
from resilio._native.shared import Region
from resilio.sharing._fleet.ties import KEYED, tie_of
from resilio.sharing._fleet.ties.keys import KeysTie
from resilio.sharing._links import KeyedLink, KeyLink, canonical, shareable, stage_name

if TYPE_CHECKING:
    from resilio._policy.snapshot import Sharing

__all__ = ["FleetKeyedLink", "shared_by_key"]


def shared_by_key(policy: Any) -> Iterator[tuple[int, Any, Any]]:
    """Yield what a fleet shares of a key's policy, with its gates and places: itself, or parts of a pipeline."""
    for i, (part, gate) in enumerate(shareable(policy)):
        if hasattr(gate, "share_fleet") and gate.fleet_cell_wanted()[0] in KEYED:
            yield i, part, gate


class FleetKeyLink(KeyLink):
    """The tie of the policies of keys of one fate to their fleet."""

    __slots__ = ("fleet",)

    def __init__(self, fleet: Any, trouble: str | None) -> None:
        """Tie policies of keys to the fleet of their keyed policy."""
        super().__init__(fleet.group, trouble)
        self.fleet: Any = fleet

    def is_of(self, scope: Any) -> bool:
        """Return True if it ties to this fleet."""
        return self.fleet is scope

    def sharing(self) -> Sharing:
        """Return how the policy shares now."""
        sharing: Sharing = self.fleet.sharing(None)
        return sharing

    def sharing_of(self, policy: Any) -> Sharing:
        """Return how the policy of a key shares now, with the state of its fleet, if it has one."""
        sharing, numbers = self.sharing(), getattr(policy, "_numbers_of_fleet", policy._numbers_of_all)
        return sharing if sharing.degraded else attrs.evolve(sharing, **numbers())


class FleetKeyedLink(KeyedLink):
    """
    The tie of a keyed policy to its fleet.

    Attributes:
        fleet: The fleet.

        tie: What the courier asks; None: the keys are the process's own.
    """

    __slots__ = ("fleet", "tie")

    def __init__(self, fleet: Any) -> None:
        """Tie a keyed policy to its fleet."""
        super().__init__(fleet.group)
        self.fleet: Any = fleet
        self.tie: KeysTie | None = None
        self.ties: dict[str | None, KeyLink] = {why: FleetKeyLink(fleet, why) for why in self.ties}

    def is_of(self, scope: Any) -> bool:
        """Return True if it ties to this fleet."""
        return self.fleet is scope

    def sharing(self) -> Sharing:
        """Return how the keys are shared now."""
        sharing: Sharing = self.fleet.sharing(self.tie)
        return sharing

    def give(self, policy: Any, region: Region | None) -> None:
        """Give each key its cells, or its own state."""
        if self.tie is not None:
            self.fleet.courier.remove(self.tie)
            self.tie = None
        if policy._link is self and not self.fleet.is_alone:
            self.tie = KeysTie(self.fleet, policy.name)
        super().give(policy, region)
        if self.tie is not None:
            self.fleet.courier.add(self.tie, clock.now_ns())
            self.fleet.start()

    def give_key(self, keyed: Any, one: Any, key: Any) -> None:
        """Give the shared policies of one key their cells; a key without a form that all agree on stays here."""
        text = canonical(key)
        with self.host.lock:
            for i, part, gate in shared_by_key(one):
                why = self._give_part(keyed, gate, text, stage_name(keyed, i))
                part._link = self.ties[why]
                if why is not None:
                    self.apart = True

    def _give_part(self, keyed: Any, gate: Any, text: bytes | None, name: str) -> str | None:  # noqa: ARG002 - as of a host
        """Give a gate its cell, or its own state; return why the latter, None if the fleet is private."""
        if self.tie is None or text is None:
            gate.share_fleet(None)
            return None if self.tie is None else "no_form"
        kind, _, size = gate.fleet_cell_wanted()
        cell = self.fleet.own_region().loose_cell(kind, name, size)
        gate.share_fleet(cell)
        self.tie.add(tie_of(kind, gate.policy, gate, cell, self.fleet, name=name, key=text), ref(gate.policy))
        self.given = True
        return None

    def reset(self, keyed: Any, spare: Any) -> None:  # noqa: ARG002 - as of a host
        """Begin anew with all keys here; what the store has of them stays, as it is also that of other hosts."""
        for _, part, gate in shared_by_key(spare):
            part._link = None
            gate.share_fleet(None)

    def take_back(self, keyed: Any) -> None:
        """Let every key be the process's own again."""
        for one in [*(policy for _, policy in keyed.items()), keyed.overflow]:
            for _, part, gate in shared_by_key(one):
                part._link = None
                gate.share_fleet(None)
