"""What a retry leaves on the exception that it lets pass: every attempt, and why there was no other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs

__all__ = ["Attempt", "RetryTrail", "attach"]

_LONGEST = 200


@attrs.frozen
class Attempt:
    """
    One attempt of a call.

    Attributes:
        number: From 1.

        error: What it raised, as text: the exceptions themselves would keep their frames alive; None if it returned.

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
    How a retried call has ended; on the exception as `error.resilio`.

    Attributes:
        attempts: All attempts, in order.

        stop_reason: Why there was no other: "attempts", "budget", "deadline", "refused", "retry_after",
            "not_retryable", "not_replayable", "would_block" or "nested".
    """

    attempts: tuple[Attempt, ...]
    stop_reason: str

    def __str__(self) -> str:
        tried = "1 attempt" if len(self.attempts) == 1 else f"{len(self.attempts)} attempts"
        return f"{tried} in {self.attempts[-1].seconds:.3g} s, no other: {self.stop_reason}"


def attach(
    shown: BaseException,
    last: BaseException,
    stop_reason: str,
    trail: Sequence[tuple[BaseException | None, Any, int, int]],
    began_ns: int,
    now_ns: int,
) -> None:
    """
    Leave the trail on an exception, as `shown.resilio` and, if there was more than one attempt, as a note.

    Args:
        shown: The exception that goes on.

        last: How the last attempt ended.

        stop_reason: Why there is no other.

        trail: Of each attempt that was followed by another: error or None, result, end and wait in nanoseconds.

        began_ns: When the call began.

        now_ns: When the last attempt ended.
    """
    attempts = [
        Attempt(number, _text(error), (ended_ns - began_ns) / 1e9, wait_ns / 1e9)
        for number, (error, _, ended_ns, wait_ns) in enumerate(trail, 1)
    ]
    attempts.append(Attempt(len(attempts) + 1, _text(last), (now_ns - began_ns) / 1e9, None))
    found = RetryTrail(tuple(attempts), stop_reason)
    with suppress(Exception):  # an exception may forbid attributes of its own
        shown.resilio = found  # type: ignore[attr-defined]
    if trail:
        with suppress(Exception):
            shown.add_note(f"resilio: {found}")


def _text(error: BaseException | None) -> str | None:
    if error is None:
        return None
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - foreign code
        text = f"{type(error).__name__}(...)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
