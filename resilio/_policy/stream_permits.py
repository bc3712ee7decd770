"""The permit of one stage of a stream: given back if the user's function was not called while it was held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = ["StagePermit"]


class _Makes(Protocol):
    calls: int


class StagePermit:
    """
    The permit of one stage of a stream, until its end.

    Attributes:
        permit: The permit.
    """

    __slots__ = ("_before", "_make", "permit")

    def __init__(self, permit: Permit, make: _Makes, begins: bool | None) -> None:
        """
        Take a permit as the stream inside begins.

        Args:
            permit: The permit.

            make: The call's factory, which counts the calls of the user's functions.

            begins: Whether the stream inside is the user's own; None for a strategy, which counts what it has decided.
        """
        self.permit: Permit = permit
        self._make = make
        self._before = -1 if begins is None else make.calls
        make.calls += bool(begins)

    @property
    def _called(self) -> bool:
        return self._make.calls > self._before

    def first_item(self) -> None:
        """Note the first item."""
        if self._called:
            self.permit.first_item()

    def success(self) -> None:
        """End the permit of a stream that has ended."""
        if self._called:
            self.permit.success()
        else:
            self.permit.cancel()

    def raised(self, error: BaseException, cuts: list[Any] | None = None) -> None:
        """End the permit of a stream that has raised; a cancellation by one of these cutoffs is a failure."""
        if not self._called:
            self.permit._uncalled(error)
        elif cuts and any(cut.fired for cut in cuts):
            self.permit.failure(error)
        else:
            self.permit.raised(error)
