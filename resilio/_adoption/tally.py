"""The effects that a host's calls would have seen: what shadow mode counts beside a stack that changes nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from resilio._failures.outcome import Outcome
from resilio._native.primitives import LatencyHistogram

if TYPE_CHECKING:
    from resilio._policies.circuit_breaker.policy import CircuitBreaker
    from resilio.gates import GateCall

__all__ = ["Tally"]

_SENT_ONCE = frozenset({"POST", "PATCH"})


class Tally:
    """
    A gate that admits all calls and counts: their times, those worth another attempt, those made in vain.

    Its FAILURE is what the preset calls momentary, so what a retry would repeat.
    """

    kind = "trial"

    def __init__(self) -> None:
        """Count from zero; `breaker` is set once the stack is made."""
        self.breaker: CircuitBreaker | None = None
        self.times = LatencyHistogram()
        self.repeatable = 0
        self.in_vain = 0.0
        self._lock = threading.RLock()  # the garbage collector may settle a dropped call while it is held

    def admit(self, call: GateCall) -> None:
        """Note whether the breaker of the stack is open, as it would have rejected the call."""
        call.data = self.breaker is not None and self.breaker.state == "open"

    def settle(self, call: GateCall, outcome: Outcome, seconds: float) -> None:
        """Count the end of a call."""
        self.times.record(seconds)
        failed = outcome is Outcome.FAILURE
        with self._lock:
            self.repeatable += failed and not call.data and not _is_sent_once(call.args)
            self.in_vain += seconds if failed and call.data else 0.0

    def slower_than(self, seconds: float) -> int:
        """
        Return the number of calls that took longer.

        Args:
            seconds: The bound, > 0.
        """
        return self.times.count - self.times.buckets([seconds])[0]


def _is_sent_once(args: tuple[Any, ...]) -> bool:
    return bool(args) and getattr(args[0], "method", None) in _SENT_ONCE
