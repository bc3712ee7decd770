"""
Classification of a provider's errors, by status, type and code; never by message text, which changes.

    - rate: a rate limit; a later call passes
    - quota: used up, unpaid or on hold; retries are useless
    - overloaded: the provider has too much load
    - failed: the provider failed, or the answer was cut off
    - terminal: the request is at fault
    - rejected: a policy here rejected the call; the provider was not called
    - timeout: no answer in time
    - local: the call did not leave this process: no free connection, or a request that cannot be sent
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError
from resilio.integrations.llm._details import details_of
from resilio.presets import status_of

__all__ = ["Meaning", "codes_of", "is_local", "meaning_by_codes", "meaning_of"]

Meaning = Literal["failed", "local", "overloaded", "quota", "rate", "rejected", "terminal", "timeout"]

_BY_CODE: dict[str, Meaning] = {
    "access_terminated": "quota",
    "billing_error": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "insufficient_quota": "quota",
    "organization_on_hold": "quota",
    "quota_exceeded": "quota",
    "rate_limit_error": "rate",
    "rate_limit_exceeded": "rate",
    "overloaded_error": "overloaded",
    "server_overloaded": "overloaded",
    "slow_down": "overloaded",
    "api_error": "failed",
    "server_error": "failed",
    "timeout_error": "failed",
}
"""The first of an error's codes that is listed here decides; if none is listed, the status does."""
_BY_STATUS: dict[int, Meaning] = {402: "quota", 429: "rate", 503: "overloaded", 529: "overloaded"}


def _attribute(error: Any, name: str) -> Any:
    return getattr(error, name, None)


def codes_of(error: Any) -> Iterator[str]:
    """Yield the codes and types of an SDK's exception, or of an error's JSON, the most exact first."""
    get: Callable[[str], Any] = error.get if isinstance(error, Mapping) else partial(_attribute, error)
    details = get("details")
    if isinstance(details, Mapping) and isinstance(details.get("error_code"), str):
        yield details["error_code"]
    for name in ("error_code", "code", "type"):
        value = get(name)
        if isinstance(value, str):
            yield value
    body = None if isinstance(error, Mapping) else get("body")
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    if isinstance(inner, Mapping):  # exceptions of older SDKs lack the attributes
        yield from codes_of(inner)


def meaning_of(error: BaseException) -> Meaning:
    """
    Return the meaning of an exception of the SDK, or of the HTTP client below it.

    Args:
        error: The exception of a call.
    """
    details = details_of(error)
    if details is not None and details.rejection is not None:
        return "rejected"
    if isinstance(error, RejectedError):
        return "rejected"
    if is_local(error) or is_local(error.__cause__):
        return "local"
    if isinstance(error, (CallTimeoutError, DeadlineExceededError)) or _is_timeout(error):
        return "timeout"
    return _by_answer(error)


def _is_timeout(error: BaseException) -> bool:
    return any(cls.__name__ in {"APITimeoutError", "TimeoutException"} for cls in type(error).__mro__)


def is_local(error: BaseException | None) -> bool:
    """Return True if a client's exception has a local cause, not one at the server."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"InvalidURL", "LocalProtocolError", "PoolTimeout", "UnsupportedProtocol"})


def meaning_by_codes(error: Any) -> Meaning | None:
    """Return the meaning of the codes of an SDK's exception or an error's JSON; None if no code is known."""
    return next((_BY_CODE[code] for code in codes_of(error) if code in _BY_CODE), None)


def _by_answer(error: BaseException) -> Meaning:
    meaning = meaning_by_codes(error)
    if meaning is not None:
        return meaning
    status = status_of(error)
    if status is None or status < 400:
        return "failed"
    return _BY_STATUS.get(status, "failed" if status >= 500 else "terminal")
