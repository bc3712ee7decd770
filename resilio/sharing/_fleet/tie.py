"""The courier's view of one policy: when it asks, for what, and how it takes the answers. Sans-IO."""

from __future__ import annotations

from collections.abc import Sequence

from resilio._native.clock import NEVER_NS
from resilio._native.gates import TieState
from resilio._native.shared import Cell
from resilio.sharing._fleet.ask import Answer, Ask, StoreProblem

__all__ = ["NEVER", "Tie"]

NEVER = NEVER_NS
"""A time that does not come."""


class Tie(TieState):
    """
    The tie of one policy to its fleet's courier. No method raises, waits, or reads a clock.

    Its courier sets the attributes of :class:`TieState`.
    """

    __slots__ = ()

    @property
    def ttl_ns(self) -> int:
        """The time that an answer's leases last: five ticks, at least a second."""
        return max(5 * self.tick_ns, 1_000_000_000)

    @property
    def pace_ns(self) -> int:
        """The time between its asks in the mean, if that is less than the courier's tick; 0: calls wait for each."""
        return NEVER

    @property
    def regime(self) -> str | None:
        """The way in which it takes from the fleet now: "leased", "asked", ...; None: it has one."""
        return None

    @property
    def outstanding(self) -> float | None:
        """Tokens or permits that are here on lease, and not spent; None: it has no leases."""
        return None

    @property
    def is_used(self) -> bool:
        """True as long as calls draw on its leases."""
        return True

    @property
    def rings(self) -> bool:
        """True if a call wants an answer soon."""
        return self.cell is not None and self.cell.rings

    @property
    def is_idle(self) -> bool:
        """True if nothing is wanted, and nothing of note is here: one of a key may rest."""
        return False

    def rest(self, horizon: Cell, now_ns: int) -> bool:  # noqa: ARG002 - of keyed policies
        """
        Let it rest until a call rings; return False if it may not now.

        Args:
            horizon: The cell that expires when the store is taken to be away.

            now_ns: The time.
        """
        return False

    def due_ns(self, now_ns: int) -> int:
        """Return when it next wants to ask; not later than now: at once."""
        raise NotImplementedError

    def ask(self, now_ns: int) -> Sequence[Ask]:
        """Return what to ask now; (): nothing."""
        raise NotImplementedError

    def take(self, asks: Sequence[Ask], answers: Sequence[Answer | StoreProblem], sent_ns: int, now_ns: int) -> None:
        """
        Take the answers of what `ask` returned last; called once for each time that it returned something.

        Args:
            asks: What was asked.

            answers: In the order of the asks; a problem: there is none, or it was lost.

            sent_ns: When it was sent: what an answer brings lasts from then on.

            now_ns: The time.
        """
        raise NotImplementedError

    def down(self, now_ns: int, peers: int) -> None:
        """Begin what `on_store_down` names: the store has been away until what it gave has ended."""

    def up(self, now_ns: int) -> None:
        """End it: the store has answered again."""
