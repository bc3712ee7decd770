"""Options that the servers of all integrations share: the policy, and the headers of requests that are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from resilio._options.fields import option, record
from resilio._options.validators import reject, seconds
from resilio._policy.base import Policy
from resilio._policy.types import SecondsOrNone
from resilio.integrations._shared.headers import check_header_name
from resilio.integrations._shared.trust import trust_of

__all__ = ["HintOptions", "policy_or_none"]


def policy_or_none(_: str, value: object) -> Policy[Any] | None:
    """Return the policy of a server, checked; None for the default one."""
    return None if value is None else _checked_policy(value)


def _checked_policy(policy: object) -> Policy[Any]:
    """
    Return `policy`, which must be able to guard a request: it admits it once, and never runs it again.

    Raises:
        TypeError: Not a policy, or one that retries, hedges, times out or falls back.
    """
    if not isinstance(policy, Policy):
        reject("policy", policy, "a policy, like load_shed() or pipeline(rate_limit('100/s'), load_shed())", TypeError)
    try:
        policy.aacquire().close()
    except TypeError as error:
        raise TypeError(
            f"policy must only admit or reject, not {policy!r}: a request cannot be run again once its response has "
            "begun. Use load_shed, bulkhead, rate_limit, circuit_breaker, adaptive_limit, or a pipeline or keyed of "
            "them; put retry, hedge and fallback around the calls that the handler makes, and default_deadline=... "
            "in place of a timeout"
        ) from error
    return policy


def _trust(name: str, value: Any) -> Any:
    trust_of(name, value, _of_no_address)
    return value


def _of_no_address(_: Any) -> None:
    return None


@record
class HintOptions:
    """Which headers of a request are believed, and up to which deadline."""

    max_deadline: SecondsOrNone = option(seconds, default=None, none_ok=True)
    trust: bool | str | Iterable[str] | Callable[[Any], bool] = option(_trust, default=False)
    priority_header: str | None = option(check_header_name, default=None, none_ok=True)
