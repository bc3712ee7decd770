"""
Money that calls under way have reserved, and the time after which a call that finds too little should come again.

Money that a call misses may be spent, until the next period; or it is reserved, until a call ends. A process knows
its own reservations. Of those that share the amount it knows only the sum of what they have taken: as long as that
moves, calls of theirs are under way.
"""

from __future__ import annotations

from resilio._native import clock

__all__ = ["Held"]

FIRST_NS = 1_000_000_000
"""The length of a call as long as none has ended."""
LEAST_NS = 50_000_000
"""Shorter calls count as long as this: no caller should come again sooner."""
WEIGHT = 8
"""The latest call counts as one of this many in the mean length."""
QUIET_NS = 60_000_000_000
"""The time without a change after which what others have taken counts as spent, as long as no call has ended here."""
QUIET = 4
"""The same in lengths of a call, once one has."""


class Held:
    """
    Sums that calls of this process have reserved, and that they have spent of one period. The book's lock protects it.

    Attributes:
        total: What calls under way have reserved, of any period.

        length_ns: The mean length of the latest calls, from the reservation to the first charge; None: none has ended.
    """

    __slots__ = ("_moved_ns", "_number", "_others", "_reserved", "_spent", "length_ns", "total")

    def __init__(self) -> None:
        """Begin without calls."""
        self.length_ns: int | None = None
        self.total = 0
        self._others: int | None = None
        self._moved_ns = 0
        self.begin()

    def begin(self, number: int = -1) -> None:
        """Begin with nothing spent in the period of this number; all reservations are of that period from now on."""
        self._number, self._reserved, self._spent = number, self.total, 0

    def reserve(self, number: int, amount: int) -> None:
        """Count what was reserved for a call, in the period of now."""
        self._enter(number)
        self.total += amount
        self._reserved += amount

    def release(self, number: int, amount: int) -> None:
        """Take a reservation off the sum; one of another period has lapsed."""
        self.total -= amount
        if number == self._number:
            self._reserved -= amount

    def spend(self, number: int, amount: int) -> None:
        """Count what was spent, in the period of now."""
        self._enter(number)
        self._spent += amount

    def lasted(self, begun_ns: int) -> None:
        """Learn the length of a call that ends now."""
        length_ns = max(clock.now_ns() - begun_ns, LEAST_NS)
        before = length_ns if self.length_ns is None else self.length_ns
        self.length_ns = before + (length_ns - before) // WEIGHT

    def reserved(self, number: int) -> int:
        """Return what calls under way have reserved of this period."""
        return self._reserved if number == self._number else 0

    def wait(self, number: int, taken: int, short: int, *, alone: bool) -> float | None:
        """
        Return the seconds after which calls under way may have given back enough; None: it is spent.

        Args:
            number: The period's.

            taken: What all have taken of it.

            short: The amount that the call misses.

            alone: True if no other process shares the amount.
        """
        self._enter(number)
        if self._reserved + (0 if alone else self._of_others(taken)) < short:
            return None
        return (FIRST_NS if self.length_ns is None else self.length_ns) / 1e9

    def _of_others(self, taken: int) -> int:
        """Return what others have taken, if that has changed lately; else 0, as it is spent then."""
        others, now_ns = taken - self._reserved - self._spent, clock.now_ns()
        if others != self._others:
            self._others, self._moved_ns = others, now_ns
        quiet_ns = QUIET_NS if self.length_ns is None else QUIET * self.length_ns
        return max(others, 0) if now_ns - self._moved_ns < quiet_ns else 0

    def _enter(self, number: int) -> None:
        if number != self._number:
            self._number, self._reserved, self._spent = number, 0, 0
