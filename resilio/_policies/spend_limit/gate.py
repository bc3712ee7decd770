"""The gate of a spend limit: its book, as the core asks it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Self

from resilio._native.custom import PythonGate
from resilio._native.shared import MONEY_CELL, SPEND_CELL, Cell, Taken
from resilio._policies.spend_limit import lease
from resilio._policies.spend_limit.book import REASONS, Book
from resilio._support.after_fork import in_child

if TYPE_CHECKING:
    from resilio._policies.pool.endpoint import Endpoint

__all__ = ["SpendGate"]

CELL_BYTES = 64
PROCESS, HOST, FLEET = range(3)
"""Where a call is rejected, as errors name it."""
STATES = ("normal", "low", "spent")


class SpendGate(PythonGate):
    """
    The gate of a spend limit.

    Attributes:
        book: What it counts.

        stock: The options that define the shared state, in canonical form; None: it is too much, and stays here.

        is_fleets: True if a fleet can share it: its money comes at the beginning of a period.
    """

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states."""
        return STATES

    def __new__(cls, book: Book) -> Self:
        """Make a gate that asks this book."""
        return super().__new__(cls, book, "spend_limit", REASONS, "RateLimitedError", True)

    def __init__(self, book: Book) -> None:
        """Keep the book."""
        self.book: Book = book
        self.stock: bytes | None = b""
        self.is_fleets: bool = True
        _gates.add(self)

    def belong_to(self, endpoint: Endpoint) -> None:
        """Reserve what this endpoint may cost, for calls to its pool: it is the limit of this endpoint alone."""
        others = (one for one in self.book.endpoints if one.name != endpoint.name)
        self.book.endpoints = (*others, endpoint)

    def cell_wanted(self) -> tuple[int, bytes, int]:
        """Return what the limit needs of a region: the kind of cell, what defines its stock, the bytes."""
        return SPEND_CELL, self.stock or b"", CELL_BYTES

    def share(self, cell: Cell | None) -> None:
        """Count in this cell from now on, with all processes that do; None: the stock is the process's own."""
        self.shared = HOST if cell is not None and self.stock is not None else PROCESS
        self.book.move_to(Taken(cell) if cell is not None and self.shared else None)

    def fleet_cell_wanted(self) -> tuple[int, bytes, int]:
        """Return what a fleet's limit needs of a region; of the kind 0 if no fleet can share it."""
        return MONEY_CELL if self.is_fleets and self.stock else 0, self.stock or b"", lease.CELL_BYTES

    def share_fleet(self, cell: Cell | None) -> None:
        """Spend what the store has given to this cell from now on; None: the stock is the process's own."""
        self.shared = PROCESS if cell is None else FLEET
        self.book.move_to(None if cell is None else lease.LeasedStock(cell, self.book.income.limit))


_gates: weakref.WeakSet[SpendGate] = weakref.WeakSet()


def _forget() -> None:
    for gate in list(_gates):
        gate.book.forget()


in_child("state", _forget)
