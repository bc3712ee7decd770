"""The pauses that policies make because a server has asked for one."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from resilio._context.priority import current_priority
from resilio._failures.retry_after import LONGEST_PAUSE, asked_by
from resilio._native.core import seconds_left
from resilio._policies.retry.backoff import spread

__all__ = ["MADE", "is_of_a_sheddable_call", "note_as_made", "pause_for"]

MADE = "_resilio_pause"
"""Attribute of an exception, or an answer, for which a pause was made already: its seconds."""
MAY_BE_SHED = ("sheddable", "background")


def pause_for(subject: object, *, most: float = LONGEST_PAUSE, spread_out: bool = True) -> float | None:
    """
    Return the seconds to pause for an exception or an answer, > 0; None if it asks for no pause.

    Args:
        subject: The exception, the answer, or the part of it that was kept.

        most: The cap in seconds.

        spread_out: Whether it may be longer at random, up to twice, so that clients come back one by one; at most by
            half of what the deadline leaves after it. A limit that a server has reported for this client alone is
            never spread.
    """
    made: Any = getattr(subject, MADE, None)
    if isinstance(made, float):
        return made or None
    asked = asked_by(subject)
    if asked is None:
        return None
    if spread_out and not asked.row.of:
        left = seconds_left()
        room = math.inf if left is None else max(0.0, left - asked.seconds) / 2
        return spread(asked.seconds, min(most, asked.seconds + room)) or None
    return min(asked.seconds, most) or None


def note_as_made(subject: object, pause: float = 0.0) -> None:
    """
    Let policies further out make no other pause, and a retry come back at its end.

    Args:
        subject: The exception or the answer; one that takes no attribute is asked again.

        pause: Its seconds; 0: one server of several has asked, and is left alone.
    """
    with suppress(AttributeError, TypeError):
        setattr(subject, MADE, pause)


def is_of_a_sheddable_call() -> bool:
    """
    Return True if this call may be shed: its refusal speaks for its like alone.

    A server that sheds such a call still serves more important ones.
    """
    return current_priority() in MAY_BE_SHED
