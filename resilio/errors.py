"""
Every exception that resilio raises by itself.

    ResilienceError
     +- RejectedError            the callee was never called
     |   +- CircuitOpenError  BulkheadFullError  RateLimitedError  OverloadedError  NoEndpointError
     +- CallTimeoutError (TimeoutError)      +- DeadlineExceededError (TimeoutError)

Bad configuration is a plain ValueError or TypeError at construction. The callee's exceptions are never wrapped.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar, overload

__all__ = [
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "NoEndpointError",
    "OverloadedError",
    "RateLimitedError",
    "RejectedError",
    "ResilienceError",
]


def __dir__() -> list[str]:
    return sorted(__all__)


T = TypeVar("T")


def _shown(value: object, form: str) -> str:
    """Return a number as text; anything else by its repr, as the text of an error must not raise."""
    try:
        return format(value, form)
    except (TypeError, ValueError, OverflowError):
        return repr(value)


class _NothingSpent:
    """The ledger of a call that was rejected at once; the core sets another one on an exception that has one."""

    def __get__(self, error: object, owner: type | None = None) -> Any:
        from resilio._native.core import Segments

        return Segments()


class ResilienceError(Exception):
    """Base class of all exceptions that resilio raises by itself."""

    __slots__ = ()
    resilio_segments: ClassVar[_NothingSpent] = _NothingSpent()


class _Field(Generic[T]):
    """
    One of the arguments of a rejection by its name.

    Slots would be read faster, but a class with slots cannot share a subclass with OSError, the base of some clients'
    errors.
    """

    __slots__ = ("_at",)

    def __init__(self, at: int) -> None:
        self._at = at

    @overload
    def __get__(self, error: None, owner: type[RejectedError]) -> Self: ...
    @overload
    def __get__(self, error: RejectedError, owner: type[RejectedError]) -> T: ...
    def __get__(self, error: RejectedError | None, owner: type[RejectedError]) -> Self | T:
        if error is None:
            return self
        value: T = error.args[self._at]
        return value

    def __set__(self, error: RejectedError, value: T) -> None:
        error.args = (*error.args[: self._at], value, *error.args[self._at + 1 :])


_REMEDIES = {
    "spend_limit reserved": " (the money missing is reserved by calls that are under way)",
    "spend_limit too_large": (
        " (it may cost more than the whole limit: set max_tokens in the request, reserve=... to an amount like 0.05, "
        "or a larger limit)"
    ),
    "unpriced": (
        " (its model has no price, at an endpoint that may answer, or its answer no bound; the log names the model: "
        "add it to prices, or max_tokens to the request)"
    ),
    "would_block": " (a wait would block the event loop of this thread: await the call)",
}
"""What to do about a rejection, by its reason, or by its policy and reason, where the reason alone is not enough."""


class RejectedError(ResilienceError):
    """
    A policy rejected the call: the callee was never called.

    Attributes:
        policy: The kind of the policy: "circuit_breaker", "bulkhead", "rate_limit", ...

        name: The policy's name, or None.

        reason: A label from a closed set ("open", "full", "rate", ...).

        measured: The measured value, in the unit of *limit*; None if there is nothing to report.

        limit: The limit that it was compared with.

        retry_after: Seconds after which a new call may be admitted, > 0; None if unknown.

        scope: Whose the state is that rejected, as are `measured` and `limit`: "process", or "host" or "fleet", whose
            processes share it.

        called: False, always.
    """

    __slots__ = ()
    called: ClassVar[bool] = False

    args: tuple[Any, ...]
    policy: _Field[str] = _Field(0)
    name: _Field[str | None] = _Field(1)
    reason: _Field[str] = _Field(2)
    measured: _Field[float | None] = _Field(3)
    limit: _Field[float | None] = _Field(4)
    retry_after: _Field[float | None] = _Field(5)
    scope: _Field[str] = _Field(6)

    def __init__(
        self,
        policy: str,
        name: str | None = None,
        reason: str = "rejected",
        measured: float | None = None,
        limit: float | None = None,
        retry_after: float | None = None,
        scope: str = "process",
    ) -> None:
        # The message is made when it is read, not on the rejection's path.
        self.args = (policy, name, reason, measured, limit, retry_after, scope)

    def __str__(self) -> str:
        text = f"{self.policy} {self.name!r}" if self.name else self.policy
        text += "" if self.scope == "process" else f" of this {self.scope}"
        text += f" rejected the call: {self.reason}"
        text += _REMEDIES.get(f"{self.policy} {self.reason}") or _REMEDIES.get(self.reason, "")
        if self.measured is not None and self.limit is not None:
            text += f" ({_shown(self.measured, 'g')} against {_shown(self.limit, 'g')})"
        if self.retry_after is not None:
            text += f", retry after {_shown(self.retry_after, '.3g')} s"
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        state = getattr(self, "__dict__", None) or None
        return (type(self), self.args, state) if state else (type(self), self.args)


class NoEndpointError(RejectedError):
    """
    A pool has no endpoint to choose from.

    The reason: it has none ("empty"), none that takes calls ("drained"), or all have asked to be left alone ("held").
    """

    __slots__ = ()


class CircuitOpenError(RejectedError):
    """A circuit breaker is open, or half open with all its probes in flight."""

    __slots__ = ()


class BulkheadFullError(RejectedError):
    """All permits of a bulkhead are taken, and its queue is full or the wait was too long."""

    __slots__ = ()


class RateLimitedError(RejectedError):
    """A rate limit has no tokens for the call within its longest wait, or is paused for longer than that."""

    __slots__ = ()


class OverloadedError(RejectedError):
    """A load shedder or an adaptive limit rejected the call."""

    __slots__ = ()


class CallTimeoutError(ResilienceError, TimeoutError):
    """
    resilio's own timeout ended the call; the callee's own TimeoutError passes unchanged.

    Attributes:
        clock: The time that was up: "total"; of a stream also "first", until its first item, or "idle", between two.

        limit: The seconds that were allowed; None if unknown.

        name: The policy's name, or None.

        policy: "timeout".

        called: True: the call was in flight.
    """

    called: ClassVar[bool] = True
    policy: ClassVar[str] = "timeout"

    def __init__(self, clock: str = "total", limit: float | None = None, name: str | None = None) -> None:
        super().__init__()
        self.clock = clock
        self.limit = limit
        self.name = name

    def __str__(self) -> str:
        text = f"{self.policy} {self.name!r}" if self.name else self.policy
        time = "" if self.limit is None else f" within {_shown(self.limit, '.4g')} s"
        return f"{text}: {_MISSED.get(self.clock, self.clock)}{time}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.clock, self.limit, self.name), self.__dict__


_MISSED = {"total": "not done", "first": "no first item", "idle": "no further item"}


class DeadlineExceededError(ResilienceError, TimeoutError):
    """
    The ambient deadline passed, or the call could not finish before it.

    Attributes:
        deadline: Seconds that the deadline allowed when it was set; None if unknown.

        remaining: Seconds left of it, 0 if it had passed; None if unknown.

        needed: Seconds that the call would have needed, if they were known to exceed the time left; else None.

        policy: The kind of the policy that rejected: "bulkhead", "rate_limit", ...; None if the call was in flight.

        name: The policy's name, or None.

        reason: "deadline", the label under which policies count it.
    """

    reason: ClassVar[str] = "deadline"

    def __init__(
        self,
        deadline: float | None = None,
        remaining: float | None = None,
        needed: float | None = None,
        policy: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self.remaining = remaining
        self.needed = needed
        self.policy = policy
        self.name = name

    @property
    def called(self) -> bool:
        """True if the callee was called, False if a policy rejected."""
        return self.policy is None

    def __str__(self) -> str:
        text = "the deadline" if self.deadline is None else f"the deadline of {_shown(self.deadline, '.3g')} s"
        if self.needed is None or self.remaining is None:
            text += " has passed"
        else:
            needed, left = _shown(self.needed, ".3g"), _shown(self.remaining, ".3g")
            text += f" cannot be met: {needed} s are needed, {left} s are left"
        if self.policy is None:
            return text
        return (
            f"{self.policy} {self.name!r} rejected the call: {text}"
            if self.name
            else f"{self.policy} rejected the call: {text}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.deadline, self.remaining, self.needed, self.policy, self.name)
        return type(self), fields, self.__dict__
