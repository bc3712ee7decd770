"""The trail that a retry leaves on the exception that it raises: every attempt, and the reason of the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from resilio._failures.notes import add_note
from resilio._failures.replayable import HINT
from resilio._failures.retry_after import asked_by

if TYPE_CHECKING:
    from resilio._native.core import Gate

__all__ = ["Attempt", "RetryTrail", "attach", "text_of", "trail_of"]

_LONGEST = 200


@attrs.frozen
class Attempt:
    """
    One attempt of a call.

    Attributes:
        number: From 1.

        error: Its exception as text, as the exception itself would keep its frames alive; None if it returned.

        seconds: From the call's beginning to this attempt's end.

        waited: Seconds until the next attempt began; None after the last.
    """

    number: int
    error: str | None
    seconds: float
    waited: float | None


@attrs.frozen
class RetryTrail:
    """
    The attempts of a retried call, and the reason of its end; on the exception as `error.resilio`.

    Attributes:
        attempts: All attempts, in order.

        stop_reason: The reason why there was no other: "attempts", "budget", "deadline", "rejected", "retry_after",
            "not_retryable", "not_replayable", "would_block" or "nested".

        retry_after: With "retry_after": the seconds that the dependency has asked for.

        asked_by: With "retry_after": the place at which it did, "header x-amz-retry-after" for example.

        allowed: With "retry_after": the longest wait in seconds that the retry allows, its `max_retry_after`. If
            `retry_after` is not above it, the deadline leaves less time.

        one_shot: With "not_replayable": the argument that the first attempt has used up. None: a client's rule forbids
            another request, or the option `replayable` another use of the arguments.
    """

    attempts: tuple[Attempt, ...]
    stop_reason: str
    retry_after: float | None = None
    one_shot: str | None = None
    asked_by: str | None = None
    allowed: float | None = None

    def __str__(self) -> str:
        tried = "1 attempt" if len(self.attempts) == 1 else f"{len(self.attempts)} attempts"
        more = "" if self.one_shot is None else f", {self.one_shot} can be used only once; {HINT}"
        return f"{tried} in {self.attempts[-1].seconds:.3g} s, no other: {self.stop_reason}{more}{self._why_no_wait()}"

    def _why_no_wait(self) -> str:
        if self.retry_after is None:
            return ""
        by = "" if self.asked_by is None else f" by {self.asked_by}"
        capped = self.allowed is not None and self.retry_after > self.allowed
        limit = f"max_retry_after={self.allowed:.3g}" if capped else "the deadline leaves"
        return f", it asks for {self.retry_after:.3g} s{by}, more than {limit}"


def trail_of(error: BaseException) -> RetryTrail | None:
    """
    Return the attempts before a retry raised this exception, and why there was no other; None if none did.

    The same as `error.resilio`, with its type. Of an exception that a client's SDK raises in its place, ask
    :func:`resilio.integrations.llm.trail_of`.

    Args:
        error: The exception that a guarded call raised.
    """
    found = getattr(error, "resilio", None)
    return found if isinstance(found, RetryTrail) else None


def attach(
    shown: BaseException,
    last: BaseException,
    stop_reason: str,
    trail: Sequence[tuple[BaseException | None, int, int]],
    began_ns: int,
    now_ns: int,
    retry_after: float | None = None,
    allowed: float | None = None,
    one_shot: str | None = None,
    gate: Gate | None = None,
) -> None:
    """
    Leave the trail on an exception, as `shown.resilio` and, if it has more than one plain attempt, as a note.

    Args:
        shown: The exception that propagates.

        last: The exception of the last attempt.

        stop_reason: The reason why there is no other.

        trail: For each attempt that was followed by another: error or None, end and wait in nanoseconds.

        began_ns: The time at which the call began.

        now_ns: The time at which the last attempt ended.

        retry_after: The seconds that the dependency has asked for, if that is the reason.

        allowed: The longest wait in seconds that the retry allows.

        one_shot: The argument that cannot be used again, if that is the reason.

        gate: The retry's gate, for the note.
    """
    attempts = [
        Attempt(number, text_of(error), (ended_ns - began_ns) / 1e9, wait_ns / 1e9)
        for number, (error, ended_ns, wait_ns) in enumerate(trail, 1)
    ]
    attempts.append(Attempt(len(attempts) + 1, text_of(last), (now_ns - began_ns) / 1e9, None))
    place = None if retry_after is None else _place_of(last)
    allowed = None if retry_after is None else allowed
    found = RetryTrail(tuple(attempts), stop_reason, retry_after, one_shot, place, allowed)
    with suppress(Exception):  # an exception may forbid attributes of its own
        shown.resilio = found  # type: ignore[attr-defined]
    if trail or stop_reason == "not_replayable" or retry_after is not None:
        add_note(shown, str(found), gate)


def _place_of(error: BaseException) -> str | None:
    """Return the place at which an error asks for a pause."""
    asked = asked_by(error)
    return None if asked is None else f"{asked.row.where} {asked.row.name}"


def text_of(error: BaseException | None) -> str | None:
    """Return the type and text of an exception, shortened, even if its own repr raises; None for None."""
    if error is None:
        return None
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - foreign code
        text = f"{type(error).__name__}(...)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
