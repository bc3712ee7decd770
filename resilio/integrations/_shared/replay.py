"""
What goes along with a request, and whether it may be sent twice: no retry around a transport books a customer twice.

A request that has reached its server is not tried again, nor hedged, unless its method is idempotent by RFC 9110 or it
carries an `Idempotency-Key`; the user may know better. What was surely not processed (no connection, 425, 429) may be
tried again anyway. A body that can be read once only is sent once only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._context import deadline
from resilio._options.validators import function, refuse
from resilio.integrations._shared import headers as _wire
from resilio.integrations._shared.safely import safely
from resilio.presets import http, status_of

__all__ = [
    "IDEMPOTENT",
    "Once",
    "Rule",
    "Spent",
    "allow",
    "checked",
    "deadline_header",
    "forbid",
    "is_safe",
    "may_repeat",
    "say_deadline",
]

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "QUERY", "TRACE"})

Rule = Callable[[Any], object] | bool | None


def checked(value: Any) -> Rule:
    """Return the option `replay_safe`, checked: None for the rule of HTTP, a bool, or a predicate; to raise is a no."""
    if value is None or isinstance(value, bool):
        return value
    if callable(value):
        return safely("replay_safe", function("replay_safe", value, takes=("request",)), default=False)
    return refuse(
        "replay_safe", value, "True, False, a function of the request, or None for the rule of HTTP", TypeError
    )


def is_safe(rule: Rule, request: Any, method: str, headers: Any) -> bool:
    """
    Return whether a request may be sent twice.

    Args:
        rule: The option `replay_safe`, checked.

        request: What a predicate gets.

        method: In upper case.

        headers: A mapping that knows nothing of case.
    """
    if rule is None:
        return method in IDEMPOTENT or "idempotency-key" in headers
    return bool(rule(request)) if callable(rule) else rule


def may_repeat(subject: Any) -> bool:
    """Tell whether an error, or a response, says that nothing was processed."""
    if isinstance(subject, BaseException):
        return callable(http.unsent) and bool(http.unsent(subject))
    return status_of(subject) in {425, 429}


def forbid(subject: Any) -> None:
    """Have retries let an error, or a response, pass; or whatever ends a request that is on its way."""
    subject._resilio_replay = False


def allow(request: Any) -> None:
    """Have retries send a request again after all: nothing was done."""
    request._resilio_replay = True


class Once:
    """A request that is gone once sent, as strategies see it; everything else about it is the request's."""

    def __init__(self, request: Any) -> None:
        """Stand for `request`."""
        self.request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def sent(self, *, undone: bool = False) -> None:
        """It is sent now; `undone`: its server says that it has done nothing."""
        object.__setattr__(self, "__class__", Once if undone else Spent)


class Spent(Once):
    """One that has been sent: nothing can be called with it again."""

    def __next__(self) -> Any:
        """Say by being there, as an iterator does, that this argument is gone once used."""
        raise StopIteration


def deadline_header(value: Any) -> str | None:
    """Return the option `send_deadline`, checked: the header's name; None for none."""
    if value is True:
        return _wire.DEADLINE_HEADER
    return None if value is False else _wire.check_header_name("send_deadline", value)


def say_deadline(headers: Any, name: str | None) -> None:
    """
    Put the time that is left into the headers of a request, if there is a deadline.

    Args:
        headers: A mapping that can be written.

        name: The header's name; None: it is not to be said.
    """
    value = None if name is None else _wire.write_deadline(deadline.remaining(), name)
    if value is not None:
        headers[name] = value
