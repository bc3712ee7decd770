"""
Whether a request may be sent twice: a retry around a transport must not be what books a customer twice.

A request that has reached its server is not tried again, nor hedged, unless its method is idempotent by RFC 9110 or it
carries an `Idempotency-Key`; the user may know better. What was surely not processed (no connection, 425, 429) may be
tried again anyway. A body that can be read once only is sent once only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilio._config import refuse
from resilio.presets import http, status_of

__all__ = ["IDEMPOTENT", "checked", "forbid", "is_safe", "may_repeat"]

IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT", "QUERY", "TRACE"})

Rule = Callable[[Any], object] | bool | None


def checked(value: Any) -> Rule:
    """Return the option `replay_safe`, checked: None for the rule of HTTP, a bool, or a predicate of the request."""
    if value is None or isinstance(value, bool) or callable(value):
        return value  # type: ignore[no-any-return]
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
        return callable(http.unsent) and http.unsent(subject)
    return status_of(subject) in {425, 429}


def forbid(subject: Any) -> None:
    """Have retries let an error, or a response, pass."""
    subject._resilio_replay = False
