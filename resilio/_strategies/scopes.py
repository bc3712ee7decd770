"""Timeouts and deadlines in a task of trio: cancel scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from resilio._failures.retry_trail import RetryTrail, trail_of
from resilio._native import clock
from resilio._native.core import ambient_deadline

if TYPE_CHECKING:
    from resilio._native.core import InnerCall
    from resilio._native.strategies import DeadlineGate, TimeoutGate

__all__ = ["run_in_scope", "until_deadline"]


async def run_in_scope(gate: TimeoutGate, rest: InnerCall, seconds: float | None) -> Any:
    """
    Run `rest` with a timeout.

    Args:
        gate: The timeout stage.

        rest: The stages inside it; their gates learn the cause of a cancellation from `rest.cut`.

        seconds: The timeout; None: no limit.

    Raises:
        CallTimeoutError: The time was up.

        DeadlineExceededError: The ambient deadline had passed as well.
    """
    if seconds is None:
        return await rest()
    due_ns = clock.now_ns() + round(seconds * 1e9)
    rest.cut = scope = trio.CancelScope(deadline=trio.current_time() + seconds)
    with scope:
        return await rest()
    raise gate.timed_out(due_ns, seconds)


async def until_deadline(gate: DeadlineGate, rest: InnerCall) -> Any:
    """
    Run `rest` until the ambient deadline.

    Raises:
        DeadlineExceededError: The deadline passed.
    """
    ambient = ambient_deadline()
    if ambient is None:  # it was removed meanwhile
        return await rest()
    left = max(0, ambient.until_ns - clock.now_ns()) / 1e9
    rest.cut = scope = trio.CancelScope(deadline=trio.current_time() + left)
    trail: RetryTrail | None = None  # of a retry inside that the deadline has cut off
    with scope:
        try:
            return await rest()
        except trio.Cancelled as error:
            trail = trail_of(error)
            raise
    passed = gate.passed()
    if trail is not None:
        passed.resilio = trail  # type: ignore[attr-defined]
    raise passed
