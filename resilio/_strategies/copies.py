"""Copies of a call, for hedges: whether one is allowed, and the function that it runs. For asyncio and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilio._native.core import InnerCall
    from resilio._native.strategies import HedgeGate

__all__ = ["copy_of", "discard_of", "may_copy"]


def may_copy(gate: HedgeGate, rest: InnerCall) -> bool:
    """
    Return True if a call may be copied: its arguments are replayable, and the user's `idempotent` allows it.

    Args:
        gate: The hedge stage.

        rest: The stages inside it.
    """
    rule = gate.idempotent
    return rest.replayable and (rule is True or bool(rule(*rest.args, **rest.kwargs)))


def discard_of(gate: HedgeGate, result: Any) -> Callable[[Any], Any] | None:
    """
    Return the function that disposes of a late result: the user's `discard`, else the one that an integration attached.

    Args:
        gate: The hedge stage.

        result: The unused result, for example a response, which holds its connection until it is closed.
    """
    return gate.discard or getattr(result, "_resilio_discard", None)


def copy_of(gate: HedgeGate, rest: InnerCall, number: int) -> Any:
    """
    Return copy *number* of the stages inside a hedge, bound to its target.

    Args:
        gate: The hedge stage.

        rest: The stages inside it.

        number: Number of the copy, from 1; the last target serves all further copies.
    """
    targets: tuple[Callable[..., Any], ...] = gate.targets
    copy = rest.around(targets[min(number, len(targets)) - 1] if targets else rest.func)
    copy.begin_copy(number)
    return copy
