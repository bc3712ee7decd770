"""The pauses that policies make because a server has asked for one: how long, and what their rejections show of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs

from resilio._context.priority import current_priority
from resilio._failures.retry_after import LONGEST_PAUSE, asked_by
from resilio._native import clock
from resilio._policies.retry.backoff import spread

__all__ = ["MADE", "Pause", "is_of_a_sheddable_call", "note_as_made", "pause_for"]

MADE = "_resilio_pause"
"""Attribute of an exception, or an answer, for which a :class:`Pause` was made already."""
MAY_BE_SHED = ("sheddable", "background")


@attrs.frozen
class Pause:
    """
    A pause for a server.

    Attributes:
        seconds: Its length: the time that the server has asked for, capped, and spread if all clients got the same.

        asked: The seconds that the server has asked for.

        by: The place at which it has, "header retry-after" for example.

        allowed: The cap in seconds.

        until_ns: Its end, on the native clock.
    """

    seconds: float
    asked: float
    by: str
    allowed: float
    until_ns: int


def pause_for(subject: object, *, most: float = LONGEST_PAUSE, spread_out: bool = True) -> Pause | None:
    """
    Return the pause for which an exception or an answer asks, None if it asks for none.

    Args:
        subject: The exception, the answer, or what is kept of it.

        most: The cap in seconds.

        spread_out: Whether it may be longer at random, up to twice, so that clients come back one by one. A limit that
            a server has reported for this client alone is never spread.
    """
    made: Any = getattr(subject, MADE, None)
    if isinstance(made, Pause):
        return made if made.seconds > 0 else None
    asked = asked_by(subject)
    if asked is None:
        return None
    spreads = spread_out and not asked.row.of
    seconds = spread(asked.seconds, most) if spreads else min(asked.seconds, most)
    by = f"{asked.row.where} {asked.row.name}"
    return Pause(seconds, asked.seconds, by, most, clock.now_ns() + round(seconds * 1e9))


def note_as_made(subject: object) -> None:
    """
    Let policies further out make no pause of their own: one server of several has asked, and it is left alone.

    Args:
        subject: The exception or the answer; one that takes no attribute is asked again.
    """
    with suppress(AttributeError, TypeError):
        setattr(subject, MADE, Pause(0.0, 0.0, "", 0.0, 0))


def is_of_a_sheddable_call() -> bool:
    """
    Return True if this call may be shed: its refusal speaks for its like alone.

    A server that sheds such a call still serves more important ones.
    """
    return current_priority() in MAY_BE_SHED
