"""The stock of a limit: one number, of all that was taken, as `Span` reads it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["OwnStock", "Stock"]


class Stock(Protocol):
    """
    The number `taken`, of this process or of all that share it. Each method is one atomic step.

    Amounts are billionths of the currency, > 0.
    """

    def taken(self, base: int) -> int:
        """Return what was taken; at least `base`: amounts below it have lapsed."""
        ...

    def take(self, base: int, amount: int, most: int) -> bool:
        """Take an amount if no more than `most` is taken then; False: nothing has changed."""
        ...

    def debit(self, base: int, amount: int) -> None:
        """Take an amount, whether it is there or not."""

    def give_back(self, amount: int) -> None:
        """Undo the taking of an amount."""

    def set(self, taken: int) -> None:
        """Set what was taken."""


class OwnStock:
    """The number of this process alone. Its owner locks."""

    __slots__ = ("_taken",)

    def __init__(self, taken: int = 0) -> None:
        """Begin with what was taken before."""
        self._taken = taken

    def taken(self, base: int) -> int:
        """Return what was taken."""
        return max(self._taken, base)

    def take(self, base: int, amount: int, most: int) -> bool:
        """Take an amount if it is there."""
        after = max(self._taken, base) + amount
        if after > most:
            return False
        self._taken = after
        return True

    def debit(self, base: int, amount: int) -> None:
        """Take an amount, into debt if necessary."""
        self._taken = max(self._taken, base) + amount

    def give_back(self, amount: int) -> None:
        """Undo the taking of an amount."""
        self._taken -= amount

    def set(self, taken: int) -> None:
        """Set what was taken."""
        self._taken = taken
