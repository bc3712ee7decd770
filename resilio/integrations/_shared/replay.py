"""
Rules for sending a request twice, so that no retry repeats a booking.

A request that has reached its server is neither retried nor hedged, unless its method is idempotent by RFC 9110 or it
carries an `Idempotency-Key`; the option `idempotent` overrides that. A request that was certainly not processed (no
connection, 425, 429) may be retried anyway. A body that can be read only once is sent only once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._options.validators import function, reject
from resilio.integrations._shared.safely import safely
from resilio.presets import http, status_of

__all__ = [
    "IDEMPOTENT",
    "Once",
    "Rule",
    "Spent",
    "allow",
    "checked",
    "forbid",
    "is_safe",
    "may_repeat",
]

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "QUERY", "TRACE"})

Rule = Callable[[Any], object] | bool | None


def checked(value: Any) -> Rule:
    """
    Return the option `idempotent`, checked: None for the rule of HTTP, a bool, or a predicate that never raises.

    The predicate is wrapped: an exception of the user's function is logged and counts as False.
    """
    if value is None or isinstance(value, bool):
        return value
    if callable(value):
        return safely("idempotent", function("idempotent", value, takes=("request",)), default=False)
    return reject(
        "idempotent", value, "True, False, a function of the request, or None for the rule of HTTP", TypeError
    )


def is_safe(rule: Rule, request: Any, method: str, headers: Any) -> bool:
    """
    Return whether a request may be sent twice.

    Args:
        rule: The option `idempotent`, checked.

        request: The request, for a predicate.

        method: The method in upper case.

        headers: A case-insensitive mapping.
    """
    if rule is None:
        return method in IDEMPOTENT or "idempotency-key" in headers
    return bool(rule(request)) if callable(rule) else rule


def may_repeat(subject: Any) -> bool:
    """Return True if an error or a response proves that nothing was processed."""
    if isinstance(subject, BaseException):
        return callable(http.unsent) and bool(http.unsent(subject))
    return status_of(subject) in {425, 429}


def forbid(subject: Any) -> None:
    """Mark an error, a response, or a request in flight, so that it is not retried."""
    subject._resilio_replay = False


def allow(request: Any) -> None:
    """Mark a request as safe to retry, because nothing was processed."""
    request._resilio_replay = True


class Once:
    """Proxy of a request, for strategies, that is used up once it is sent."""

    def __init__(self, request: Any) -> None:
        """Wrap `request`."""
        self.request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self.request, name)

    def sent(self, *, undone: bool = False) -> None:
        """Note that the request is sent; `undone`: its server reported that it did nothing."""
        object.__setattr__(self, "__class__", Once if undone else Spent)


class Spent(Once):
    """A sent request, which no further attempt can use."""

    def __next__(self) -> Any:
        """Raise StopIteration. As with an iterator, the method itself marks the argument as used up."""
        raise StopIteration
