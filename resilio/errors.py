"""
Every exception that resilio raises by itself.

    ResilienceError
     +- RejectedError            the callee was never called
     |   +- CircuitOpenError  BulkheadFullError  RateLimitedError  OverloadedError
     +- CallTimeoutError (TimeoutError)      +- DeadlineExceededError (TimeoutError)

Bad configuration is a plain ValueError or TypeError at construction. What the callee raised is never wrapped.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "OverloadedError",
    "RateLimitedError",
    "RejectedError",
    "ResilienceError",
]


class ResilienceError(Exception):
    """The root of all that resilio raises by itself."""

    __slots__ = ()


class RejectedError(ResilienceError):
    """
    A policy refused the call: the callee was never called.

    Attributes:
        policy: What refused: "circuit_breaker", "bulkhead", "rate_limit", ...

        name: The policy's name, or None.

        reason: Why, from a closed set of labels ("open", "full", "rate", ...).

        measured: What was measured, in the unit of *limit*; None if there is nothing to report.

        limit: What it was measured against.

        retry_after: Seconds after which a new call has a chance, > 0; None if unknown.

        called: False, always.
    """

    __slots__ = ("limit", "measured", "name", "policy", "reason", "retry_after")
    called: ClassVar[bool] = False

    policy: str
    name: str | None
    reason: str
    measured: float | None
    limit: float | None
    retry_after: float | None

    def __init__(
        self,
        policy: str,
        name: str | None = None,
        reason: str = "refused",
        measured: float | None = None,
        limit: float | None = None,
        retry_after: float | None = None,
    ) -> None:
        # No arguments to Exception: the message is made when somebody reads it, not on the refusal's path.
        self.policy = policy
        self.name = name
        self.reason = reason
        self.measured = measured
        self.limit = limit
        self.retry_after = retry_after

    def __str__(self) -> str:
        text = f"{self.policy} {self.name!r}" if self.name else self.policy
        text += f" refused: {self.reason}"
        if self.measured is not None and self.limit is not None:
            text += f" ({self.measured:g} against {self.limit:g})"
        if self.retry_after is not None:
            text += f", retry after {self.retry_after:.3g} s"
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.policy, self.name, self.reason, self.measured, self.limit, self.retry_after)
        state = getattr(self, "__dict__", None) or None
        return (type(self), fields, state) if state else (type(self), fields)


class CircuitOpenError(RejectedError):
    """A circuit breaker is open, or half open with all its probes under way."""

    __slots__ = ()


class BulkheadFullError(RejectedError):
    """All permits of a bulkhead are taken, and its queue is full or the wait was too long."""

    __slots__ = ()


class RateLimitedError(RejectedError):
    """A rate limit has no tokens for the call within its longest wait."""

    __slots__ = ()


class OverloadedError(RejectedError):
    """A load shedder or an adaptive limit refused the call."""

    __slots__ = ()


class CallTimeoutError(ResilienceError, TimeoutError):
    """resilio's own timeout ended the call; the callee's own TimeoutError passes unchanged."""


class DeadlineExceededError(ResilienceError, TimeoutError):
    """The ambient deadline passed, or the call could not finish before it."""
