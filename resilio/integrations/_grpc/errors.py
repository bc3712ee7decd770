"""Meaning of gRPC's statuses, and resilio's own errors in gRPC's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resilio import errors
from resilio._failures.retry_after import retry_after_of
from resilio._options.validators import reject
from resilio.integrations._grpc.lib import Code, aio, grpc
from resilio.presets import Preset

__all__ = [
    "FAILING",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "OverloadedError",
    "RateLimitedError",
    "RejectedError",
    "codes",
    "in_terms",
    "is_refused",
    "preset",
    "pushback_of",
    "status_of",
]

PUSHBACK = "grpc-retry-pushback-ms"
FAILING = frozenset(
    {
        Code.DATA_LOSS,
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.UNKNOWN,
    }
)
"""Statuses that are failures of the service. CANCELLED is ignored, and see `is_refused`; all others are successes."""

_ANSWERED = (aio.AioRpcError, grpc.Call)
"""Errors with a status: of grpc.aio, and, for threads, a call that has failed."""
_MOMENTARY = (FAILING - {Code.DATA_LOSS}) | {Code.ABORTED, Code.RESOURCE_EXHAUSTED}


if TYPE_CHECKING:
    _AioRpcError = Exception  # grpcio has no types
else:
    _AioRpcError = aio.AioRpcError


class _StatusError(_AioRpcError):
    """Interface of an `AioRpcError` for an error of a policy, not of a server."""

    _status: Any = Code.RESOURCE_EXHAUSTED

    def code(self) -> Any:
        """Return the status that represents the error."""
        return self._status

    def details(self) -> str:
        """Return the error's text."""
        return str(self)

    def initial_metadata(self) -> Any:
        """Return no metadata."""
        return aio.Metadata()

    def trailing_metadata(self) -> Any:
        """Return `grpc-retry-pushback-ms`, the time until a new call may be admitted, if that is known."""
        return aio.Metadata(*pushback_of(self))

    def debug_error_string(self) -> str:
        """Return the error's name and text."""
        return repr(self)


class RejectedError(errors.RejectedError, _StatusError):
    """A policy rejected the call, which was not sent: `except grpc.aio.AioRpcError` catches it."""


class CircuitOpenError(errors.CircuitOpenError, RejectedError):
    """A circuit breaker rejected the call: UNAVAILABLE."""

    _status = Code.UNAVAILABLE


class BulkheadFullError(errors.BulkheadFullError, RejectedError):
    """A bulkhead rejected the call: RESOURCE_EXHAUSTED."""


class RateLimitedError(errors.RateLimitedError, RejectedError):
    """A rate limit rejected the call: RESOURCE_EXHAUSTED."""


class OverloadedError(errors.OverloadedError, RejectedError):
    """A load shedder or an adaptive limit rejected the call: RESOURCE_EXHAUSTED."""


class CallTimeoutError(errors.CallTimeoutError, _StatusError):
    """A timeout of resilio ended the call: DEADLINE_EXCEEDED."""

    _status = Code.DEADLINE_EXCEEDED


class DeadlineExceededError(errors.DeadlineExceededError, _StatusError):
    """The ambient deadline passed, or the call could not finish before it: DEADLINE_EXCEEDED."""

    _status = Code.DEADLINE_EXCEEDED


_TERMS: dict[type[errors.ResilienceError], type[_StatusError]] = {
    errors.BulkheadFullError: BulkheadFullError,
    errors.CallTimeoutError: CallTimeoutError,
    errors.CircuitOpenError: CircuitOpenError,
    errors.DeadlineExceededError: DeadlineExceededError,
    errors.OverloadedError: OverloadedError,
    errors.RateLimitedError: RateLimitedError,
    errors.RejectedError: RejectedError,
}


def in_terms(error: errors.ResilienceError) -> Any:
    """Return an error of resilio in gRPC's terms, with all its attributes."""
    if isinstance(error, aio.AioRpcError):
        return error
    found = next((_TERMS[kind] for kind in type(error).__mro__ if kind in _TERMS), None)
    if found is None:
        return error
    made: Any = found(*error.__reduce__()[1])
    made.__dict__.update(error.__dict__)
    made.__cause__, made.__traceback__ = error.__cause__, error.__traceback__
    return made


def pushback_of(error: object) -> tuple[tuple[str, str], ...]:
    """Return the metadata for `error.retry_after`; empty if that is not known."""
    after = getattr(error, "retry_after", None)
    return () if after is None else ((PUSHBACK, str(max(1, round(after * 1e3)))),)


def status_of(error: BaseException) -> Any:
    """Return the status that the server sent; None for an error of a policy, or of any other kind."""
    answered: Any = error
    return answered.code() if isinstance(error, _ANSWERED) and not isinstance(error, _StatusError) else None


def is_refused(error: Any) -> bool:
    """Return True for RESOURCE_EXHAUSTED, and UNAVAILABLE with a pushback: the server is up, and has done nothing."""
    status = status_of(error)
    return status is Code.RESOURCE_EXHAUSTED or (status is Code.UNAVAILABLE and retry_after_of(error) is not None)


def codes(name: str, value: Any) -> frozenset[Any] | None:
    """
    Return status codes, checked; None stays None.

    Args:
        name: The parameter.

        value: Members of `grpc.StatusCode`, or None.

    Raises:
        TypeError: Any other value.
    """
    if value is None:
        return None
    found = frozenset(value) if isinstance(value, Iterable) and not isinstance(value, str) else frozenset({value})
    for one in found:
        if not isinstance(one, Code):
            reject(name, value, "members of grpc.StatusCode, like (StatusCode.UNAVAILABLE,), or None", TypeError)
    return found


def _says_nothing_was_done(error: Any) -> bool:
    """Return True for a pushback of an overloaded server, which has not begun the call."""
    if status_of(error) not in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE):
        return False
    return any(key == PUSHBACK for key, _ in error.trailing_metadata() or ())


def _is_failing(error: Any) -> bool:
    return status_of(error) in FAILING or isinstance(error, (OSError, asyncio.TimeoutError))


def _is_momentary(error: Any) -> bool:
    return status_of(error) in _MOMENTARY or isinstance(error, (OSError, asyncio.TimeoutError))


preset: Preset = Preset(failing=_is_failing, momentary=_is_momentary, unsent=_says_nothing_was_done, refused=is_refused)
"""For `standard(..., on=preset)`: failures by status, retried if calls are idempotent."""
