"""A policy's record of a call through an SDK, retrievable from the exception that the SDK raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from resilio._failures.retry_trail import RetryTrail
    from resilio._native.core import Segments
    from resilio.errors import RejectedError

__all__ = ["KEY", "Details", "details_of", "given_up", "partial_of", "rejection_of", "segments_of", "trail_of"]

KEY = "resilio"
"""Name of the record among the extensions of a request."""
_MOST_CAUSES = 8


@attrs.define
class Details:
    """
    Record of one call.

    Attributes:
        rejection: The rejection, if a policy rejected the call.

        trail: The attempts, if a retry gave up.

        partial: Whether the caller had a part of the answer when it broke.

        segments: The ledger of its time, if it raised.

        ended: Whether the policy has ended the call with an exception.
    """

    rejection: RejectedError | None = None
    trail: RetryTrail | None = None
    partial: bool = False
    segments: Segments | None = None
    ended: bool = False

    def ended_by(self, error: Exception) -> None:
        """Keep the trail and the segments of an exception that left the policy."""
        self.ended = True
        self.trail = getattr(error, "resilio", None)
        self.segments = getattr(error, "resilio_segments", None)


def _own(error: BaseException, name: str) -> Any:
    """Return what a policy has left on the exception itself or its cause: a deadline around a call raises its own."""
    for holder in (error, error.__cause__):
        found = getattr(holder, name, None)
        if found is not None and getattr(found, "total", True):  # our errors have empty segments by default
            return found
    return None


def details_of(error: Any) -> Details | None:
    """Return the record of the call that an exception ended; None if no policy guarded it."""
    for _ in range(_MOST_CAUSES):
        for holder in (error, getattr(error, "response", None)):
            request = getattr(holder, "__dict__", {}).get("request") or getattr(holder, "_request", None)
            details = getattr(request, "extensions", {}).get(KEY)
            if isinstance(details, Details):
                return details
        if (error := getattr(error, "__cause__", None)) is None:
            break
    return None


def rejection_of(error: BaseException) -> RejectedError | None:
    """
    Return the rejection that an SDK's exception represents; None if no policy rejected the call.

    Args:
        error: The exception of a call, for example `openai.RateLimitError`.
    """
    details = details_of(error)
    return None if details is None else details.rejection


def trail_of(error: BaseException) -> RetryTrail | None:
    """
    Return the attempts that were made before an SDK's exception; None if there was one attempt or no retry.

    Args:
        error: The exception of a call, or the DeadlineExceededError of a deadline around it.
    """
    details = details_of(error)
    found: RetryTrail | None = _own(error, "resilio") if details is None else details.trail
    return found


def partial_of(error: BaseException) -> bool:
    """
    Return True if a part of the answer had reached the caller, so that repeating the call may duplicate it.

    Args:
        error: The exception of a call, or of an iteration of its stream.
    """
    details = details_of(error)
    return details is not None and details.partial


def given_up(error: BaseException) -> bool:
    """
    Return True unless a guarded client's own policy has yet to decide whether to repeat the call.

    For a retry around the call that goes elsewhere, like one around a pool: `on=given_up`. The client's own retry
    stands aside for all that a retry around it takes. That one takes the error only after the client's last attempt.

    Args:
        error: The exception of a call.
    """
    details = details_of(error)
    return details is None or details.ended


def segments_of(error: BaseException) -> Segments | None:
    """
    Return the segments of a call's time, from the SDK's exception that ended it; None if no policy guarded it.

    Args:
        error: The exception of a call, or of an iteration of its stream.
    """
    details = details_of(error)
    found: Segments | None = _own(error, "resilio_segments") if details is None else details.segments
    return found
