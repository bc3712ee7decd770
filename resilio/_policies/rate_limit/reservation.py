"""Reservations: blocks that take an estimate of tokens, and correct it when the call's actual cost is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from resilio._context.blocks import ReservingBlock
from resilio._native import clock

if TYPE_CHECKING:
    from resilio._native.core import Permit, Pipeline
    from resilio._native.gates import Amounts, LimiterGate

__all__ = ["Reservation"]


class Reservation(ReservingBlock["Reservation"]):
    """
    A block that takes an estimate of a call's cost; made by `reserve`, for one use.

    The tokens are taken at once, so that concurrent calls cannot all count on the same ones. A block that is not
    settled keeps its estimate, as the callee was called. A block that was never entered, because the wait was cancelled
    or the call rejected, has taken nothing.
    """

    __slots__ = ("_amounts", "_gate", "_since_ns", "_taken")

    def __init__(self, pipeline: Pipeline, gate: LimiterGate, amounts: Amounts) -> None:
        """Make the block; the tokens are taken when it is entered."""
        super().__init__(pipeline, (amounts,))
        self._gate = gate
        self._amounts = amounts
        self._since_ns = 0  # when it was taken, at the latest
        self._taken: dict[str, float] = {}

    def _begun(self, permit: Permit) -> Self:  # noqa: ARG002
        self._since_ns = clock.now_ns()
        return self

    def settle(self, **actual: float) -> None:
        """
        Set the actual cost of the call: surplus tokens are returned, missing ones are taken, as a debt if need be.

        May be called again, in the block or after it; the last call counts.

        Args:
            actual: Tokens by unit, each >= 0; units not named keep the estimate.

        Raises:
            ValueError: A unit that no rate has, or no number of tokens.
        """
        self._held()
        checked = self._gate.amounts((), {}, dict(actual))
        for unit in actual:
            before = self._taken.get(unit, self._amounts.of(unit))
            self._taken[unit] = checked.of(unit)
            if not self._amounts.shadow:
                self._gate.adjust(unit, checked.of(unit) - before, self._since_ns)
