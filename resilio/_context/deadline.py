"""
The ambient deadline, which blocks set and any code may read; the base of `resilio.deadline`.

A context variable passes it to tasks and worker threads. Deadlines nest, and only shorten.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, overload

from resilio import _backends
from resilio._context import variables
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline, seconds_left
from resilio._options.validators import seconds as checked_seconds
from resilio._policy.types import Time
from resilio._time_ledger.ledger import pass_on
from resilio.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilio._native.core import AmbientSetting

__all__ = ["begin", "deadline_error", "remaining"]


def begin(setting: AmbientSetting, allowed_ns: int, generator: Any, *, enforced: bool) -> None:
    """
    Set the deadline, unless the outer one is nearer, and enforce it, unless an outer block does so in this task.

    Args:
        setting: The setting of the block that begins; it is undone if this raises.

        allowed_ns: The time that the block has, >= 0.

        generator: The generator whose consumer would see the deadline, or None.

        enforced: True if the block is interrupted when the time has passed.
    """
    now_ns = clock.now_ns()
    outer, until_ns = ambient_deadline(), now_ns + allowed_ns
    cutoff = own = None
    if outer is not None and outer.until_ns <= until_ns:
        until_ns, allowed_ns, cutoff = outer.until_ns, outer.allowed_ns, outer.cutoff
    if enforced and (cutoff is None or not cutoff.here()):  # of two at the same time, the outer interrupts
        cutoff = own = _backends.cutoff(_suspended(generator))
    before = variables.deadline.get()
    setting.set(variables.deadline, AmbientDeadline(until_ns, allowed_ns, before, generator, cutoff))
    if own is not None:
        setting.cutoff = own
        own.start((until_ns - now_ns) / 1e9)


def _suspended(generator: Any) -> Callable[[], bool] | None:
    if generator is None:
        return None
    weakly = weakref.ref(generator)

    def suspended() -> bool:
        """Return True if the generator waits for its consumer, or is gone."""
        here = weakly()
        return here is None or not here.ag_running

    return suspended


def deadline_error(deadline: AmbientDeadline, error: BaseException | None) -> Exception:
    """
    Return the exception to raise in place of `error`, as the block was interrupted.

    Args:
        deadline: The block's deadline.

        error: The cancellation that has left the block; None: it ended by itself at that moment.
    """
    left = max(0, deadline.until_ns - clock.now_ns()) / 1e9
    passed = DeadlineExceededError(deadline.allowed_ns / 1e9, left)
    return passed if error is None else pass_on(error, passed)


@overload
def remaining(cap: None = None) -> float | None: ...
@overload
def remaining(cap: Time) -> float: ...
def remaining(cap: Time | None = None) -> float | None:
    """
    Return the seconds that are left of the ambient deadline: `client.get(url, timeout=remaining(cap=5.0))`.

    Args:
        cap: The most to return, in seconds >= 0; also returned if there is no deadline.

    Returns:
        Seconds >= 0; 0.0 once the deadline has passed; `cap`, or None, if there is no deadline.
    """
    left = seconds_left()
    if cap is None:
        return left
    most: float = checked_seconds("cap", cap, zero_ok=True)
    return most if left is None else min(left, most)
