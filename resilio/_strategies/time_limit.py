"""
The time left of a call in a thread, for clients that limit their sockets to it.

A thread cannot be interrupted. But a client that checks the time left before each wait of a socket ends by itself when
a timeout or a deadline ends. While such a call runs, its time limit is the ambient deadline of its context, so that
gates inside wait no longer either. This module records the timeout that has set it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._context import variables
from resilio._context.scope import Block
from resilio._native import clock
from resilio._native.core import AmbientDeadline, ambient_deadline
from resilio._support.client_target import returns_with_headers
from resilio.errors import DeadlineExceededError

if TYPE_CHECKING:
    from resilio._native.core import AmbientSetting, InnerCall
    from resilio._native.strategies import TimeoutGate

__all__ = ["NEVER_NS", "TimeLimit", "late_error", "run_within"]

NEVER_NS = 2**63 - 1
_limit, _deadline = variables.time_limit, variables.deadline


class TimeLimit(Block):
    """
    A time by which a call has to end: entered around the call, once or step by step.

    Attributes:
        until_ns: The time at which it ends.

        seconds: Its length in seconds.

        total: The seconds of the whole call, of which this may be the first part; None: no limit.

        gate: The gate of the timeout that has set it; None: a deadline.

        clock: The clock of the timeout: "total", "first" or "idle".

        late: True if it has ended the call.

        outer: The limit in which this one was entered.

        around: The ambient deadline that no limit has set.
    """

    __slots__ = ("around", "clock", "gate", "late", "outer", "seconds", "total", "until_ns")

    def __init__(self, gate: TimeoutGate | None, until_ns: int, seconds: float, clock: str = "total") -> None:
        """Make the limit; it applies when entered."""
        self.gate = gate
        self.until_ns = until_ns
        self.seconds = seconds
        self.total: float | None = seconds
        self.clock = clock
        self.late = False
        self.around: AmbientDeadline | None = None
        self.outer: TimeLimit | None = None

    def _begin_block(self, setting: AmbientSetting, generator: Any, enforced: bool) -> None:  # noqa: ARG002
        """Set the limit; it becomes the ambient deadline unless that is nearer."""
        outer, ambient, until_ns = _limit.get(), ambient_deadline(), self.until_ns
        self.outer = outer
        self.around = ambient if outer is None else outer.around
        setting.set(_limit, self)
        if ambient is None or until_ns < ambient.until_ns:
            setting.set(_deadline, AmbientDeadline(until_ns, round(self.seconds * 1e9), _deadline.get()))

    @property
    def cancel_called(self) -> bool:
        """True if the time was up; read by the label of a stage."""
        return self.late

    @property
    def cancelled_caught(self) -> bool:
        """True if the limit has ended the call."""
        return self.late

    def expired(self) -> Exception:
        """Return the exception that replaces a socket's error: the limit has passed, and no deadline before it."""
        self.late = True
        if self.gate is None:
            return DeadlineExceededError(self.seconds, 0.0)
        # The moment just before the limit, at which no deadline had passed.
        return self.gate.timed_out(self.until_ns - 1, self.seconds, self.clock)


def late_error() -> Exception | None:
    """Return the exception that ends the call in this thread, None as long as it has time."""
    deadline = ambient_deadline()
    if deadline is None or clock.now_ns() < deadline.until_ns:
        return None
    limit: TimeLimit | None = variables.time_limit.get()
    while limit is not None and limit.until_ns > deadline.until_ns:
        limit = limit.outer
    if limit is None or (limit.around is not None and limit.around.until_ns <= limit.until_ns):  # deadline first
        return DeadlineExceededError(deadline.allowed_ns / 1e9, 0.0)
    return limit.expired()


def run_within(gate: TimeoutGate, rest: InnerCall) -> Any:
    """
    Run `rest`, which heeds the ambient deadline, in this thread, within a timeout's time.

    Args:
        gate: The timeout's gate.

        rest: The stages inside.

    Raises:
        CallTimeoutError: The time was up.

        DeadlineExceededError: The ambient deadline passed, before or with it.
    """
    first = gate.first
    limit = rest.cut = _limit_of(gate, rest, first if first is not None and returns_with_headers(rest.func) else None)
    try:
        with limit:
            return rest()
    except DeadlineExceededError as error:
        in_time = clock.now_ns() < limit.until_ns and error.policy is None  # else of a gate inside, which rejects early
        if limit.late or in_time or error.deadline != limit.seconds:
            raise
        limit.late = True
        raise gate.timed_out(limit.until_ns, limit.seconds, limit.clock) from error


def _limit_of(gate: TimeoutGate, rest: InnerCall, first: float | None) -> TimeLimit:
    wait_ns = rest.wait_ns
    total = None if wait_ns == NEVER_NS else wait_ns / 1e9
    if total is not None and (first is None or first >= total):
        return TimeLimit(gate, clock.now_ns() + wait_ns, total)
    if first is None:
        return TimeLimit(gate, NEVER_NS, 0.0)
    limit = TimeLimit(gate, clock.now_ns() + round(first * 1e9), first, "first")
    limit.total = total
    return limit
