"""Faults of a provider: the reply to one request, and scripts that choose the reply of each."""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ["HEALTHY", "Reply", "Script", "always", "once", "until"]


@attrs.frozen
class Reply:
    """
    The treatment of one request; without arguments, a whole answer of status 200.

    Attributes:
        status: Of the answer; 0 resets the connection before any byte.

        code: Of the error that an answer of 400 and above contains.

        retry_after: Seconds in the header `Retry-After`; None: no such header.

        silence: Seconds before the status; then, the connection is closed without an answer.

        first: Seconds from the headers to the first token.

        tokens: Tokens before the stream breaks; of a whole answer, the same share of its body.

        stall: Seconds of silence before a stream that breaks is closed.

        garbage: Tokens before an event that is no JSON; the stream goes on after it. A whole answer is no JSON.

        ended: Whether the answer's last event is sent.

        prefill: Whether a conversation may end with a message of the assistant.

        pace: Seconds between two tokens.
    """

    status: int = 200
    code: str | None = None
    retry_after: float | None = None
    silence: float = 0.0
    first: float = 0.0
    tokens: int | None = None
    stall: float = 0.0
    garbage: int | None = None
    ended: bool = True
    prefill: bool = True
    pace: float = 0.015

    def __str__(self) -> str:
        """Return the options that are not those of a healthy answer."""
        options = {name: value for name, value in attrs.asdict(self).items() if value != getattr(HEALTHY, name)}
        return ", ".join(f"{name}={value}" for name, value in options.items()) or "healthy"


HEALTHY = Reply()

Script = Callable[[int, float], Reply]
"""The reply to a request by its number at this endpoint, from 1, and by the seconds since the scenario began."""


def always(reply: Reply) -> Script:
    """
    Return a script that treats all requests alike.

    Args:
        reply: To each.
    """
    return lambda _number, _at: reply


def once(reply: Reply) -> Script:
    """
    Return a script of which only the first request meets a fault.

    Args:
        reply: To the first.
    """
    return lambda number, _at: reply if number == 1 else HEALTHY


def until(seconds: float, reply: Reply) -> Script:
    """
    Return a script that is healthy after a time.

    Args:
        seconds: From the beginning of the scenario.

        reply: To requests before that.
    """
    return lambda _number, at: reply if at < seconds else HEALTHY
