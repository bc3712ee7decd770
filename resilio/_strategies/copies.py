"""What a copy of a call is: whether there may be one, and what it runs. The same on asyncio and on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilio._native.core import Rest
    from resilio._native.strategies import HedgeGate

__all__ = ["copy_of", "discard_of", "may_copy"]


def may_copy(gate: HedgeGate, rest: Rest) -> bool:
    """
    Tell whether a call may be made once more: its arguments are still there, and the user says so.

    Args:
        gate: The hedge stage.

        rest: What is inside of it.
    """
    rule = gate.replay_safe
    return rest.replayable and (rule is True or bool(rule(*rest.args, **rest.kwargs)))


def discard_of(gate: HedgeGate, result: Any) -> Callable[[Any], Any] | None:
    """
    Return what takes a result that came too late: the user's function, else what an integration has put upon it.

    Args:
        gate: The hedge stage.

        result: What nobody will see: a response, which holds its connection until it is closed.
    """
    return gate.discard or getattr(result, "_resilio_discard", None)


def copy_of(gate: HedgeGate, rest: Rest, number: int) -> Any:
    """
    Return copy *number* of what is inside of a hedge stage, for the target whose turn it is.

    Args:
        gate: The hedge stage.

        rest: What is inside of it.

        number: From 1; the last target serves for all further ones.
    """
    targets: tuple[Callable[..., Any], ...] = gate.targets
    copy = rest.around(targets[min(number, len(targets)) - 1] if targets else rest.func)
    copy.begin_copy(number)
    return copy
