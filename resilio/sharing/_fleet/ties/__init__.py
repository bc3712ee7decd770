"""The ties of each kind of policy, by the kind of its fleet's cell (`RS_CELL_LEASE`, ... of shared/member.h)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resilio._native.shared import Cell
from resilio.sharing._fleet.tie import Tie

__all__ = ["KEYED", "TIES", "tie_of"]

TIES: dict[int, tuple[str, str]] = {
    8: ("resilio.sharing._fleet.ties.limit", "LimitTie"),
    9: ("resilio.sharing._fleet.ties.breaker", "BreakerTie"),
    10: ("resilio.sharing._fleet.ties.slots", "SlotsTie"),
    12: ("resilio.sharing._fleet.ties.spend", "SpendTie"),
    13: ("resilio.sharing._fleet.ties.budget", "BudgetTie"),
}
"""Module and class of a tie: `Class(policy, gate, cell, fleet)`."""

KEYED = (8, 9, 12)
"""The kinds whose policies can be shared by key: their ties take `name` and `key` too, and can rest."""


def tie_of(kind: int, policy: Any, gate: Any, cell: Cell, fleet: Any, **key: Any) -> Tie:
    """Return the tie of a policy whose gate has this cell; of a key with `name` and `key`."""
    module, name = TIES[kind]
    made: Tie = getattr(import_module(module), name)(policy, gate, cell, fleet, **key)
    return made
