"""
What the ASGI and the WSGI middleware have in common: their options, what headers say, and how a refusal is answered.

A request is a mapping to both: the scope, or the environ. Policies see it as the call's only argument, so that keys,
tenants, tasks, weights and costs are functions of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from resilio._context.priority import PriorityClass
from resilio._options.fields import option, record
from resilio._options.validators import flag, function, refuse, seconds
from resilio._policy.base import Policy
from resilio._policy.types import Converted, SecondsOrNone
from resilio.errors import CallTimeoutError, DeadlineExceededError, RateLimitedError, RejectedError
from resilio.integrations._shared.headers import (
    DEADLINE_HEADER,
    check_header_name,
    note_ignored,
    read_deadline,
    read_priority,
    read_tenant,
    retry_after_header,
)
from resilio.integrations._shared.safely import safely
from resilio.integrations._shared.trust import trust_of

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = [
    "EXEMPT",
    "REFUSALS",
    "TENANT",
    "Answer",
    "Hints",
    "Server",
    "ServerOptions",
    "checked_policy",
    "settle",
    "tenant_of",
]

EXEMPT = ("/health", "/healthz", "/livez", "/readyz")
"""What is asked to learn whether the server lives: no overload may stop the answer. Paths that are given are added."""

LATE = (CallTimeoutError, DeadlineExceededError)
"""The answer did not come in time: that of the app, or of what it has called."""

REFUSALS = (RejectedError, *LATE)
"""What is answered, if the response has not begun: refusals and timeouts, those of the app's guarded calls included."""

TENANT = "resilio.tenant"
"""Where a request says whose it is, if a trusted header did."""

DRAINED_BYTES = 65_536
"""A request's body that is no longer is left to the server to skip; for a longer one the connection is closed."""

_PHRASES = {429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout"}

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""

Respond = Callable[[Any, Exception], "tuple[int, Iterable[tuple[str, str]], bytes] | None"]


class Hints(NamedTuple):
    """What the headers of a request ask for, as far as it is trusted."""

    seconds: float | None
    level: PriorityClass | None
    tenant: str | None


def tenant_of(request: Mapping[str, Any]) -> str | None:
    """
    Return whose request this is by the middleware's `tenant_header`, None if nobody who is trusted said so.

    For the policy: `load_shed(tenant=tenant_of)`, `keyed(..., key=tenant_of)`.

    Args:
        request: The ASGI scope or the WSGI environ.
    """
    tenant: str | None = request.get(TENANT)
    return tenant


def settle(permit: Permit, status: int) -> None:
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""
    if status < 400:
        permit.success()
    elif status < 500:
        permit.ignore()
    else:
        permit.failure()


def checked_policy(policy: object) -> Policy[Any]:
    """
    Return `policy`, which must be able to guard a request: it admits it once, and runs nothing again.

    Raises:
        TypeError: No policy, or one that retries, hedges, times out or falls back.
    """
    if not isinstance(policy, Policy):
        refuse("policy", policy, "a policy, like load_shed() or pipeline(rate_limit('100/s'), load_shed())", TypeError)
    try:
        policy.aacquire().close()
    except TypeError as error:
        raise TypeError(
            f"policy must only admit or refuse, not {policy!r}: a request cannot be run again once its response has "
            "begun. Use load_shed, bulkhead, rate_limit, circuit_breaker, adaptive_limit, or a pipeline or keyed of "
            "them; put retry, hedge and fallback around the calls that the handler makes, and default_deadline=... "
            "in place of a timeout"
        ) from error
    return policy


def _paths(name: str, value: object) -> tuple[str, ...]:
    """Return the paths that are exempt, the defaults included unless there are none; below "/a/*" is "/a" as well."""
    if value is None:
        return ()
    right = "paths, like ('/metrics/*', '/static/*'), a function of the request, or None"
    if isinstance(value, str) or not isinstance(value, Iterable):
        refuse(name, value, right, TypeError)
    paths = tuple(value)
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/"):
            refuse(name, path, right, ValueError if isinstance(path, str) else TypeError)
    return (*EXEMPT, *paths, *(path[:-2] for path in paths if path.endswith("/*") and path != "/*"))


def _app(name: str, value: object) -> Any:
    return value if callable(value) else refuse(name, value, "the app inside, which is called", TypeError)


def _policy(_: str, value: object) -> Policy[Any] | None:
    return None if value is None else checked_policy(value)


def _trust(name: str, value: Any) -> Any:
    trust_of(name, value, _of_no_address)
    return value


def _of_no_address(_: Any) -> None:
    return None


def _exempt(name: str, value: Any) -> Any:
    return function(name, value, takes=("request",)) if callable(value) else _paths(name, value)


Exempt = Converted[Iterable[str] | Callable[[Any], bool] | None, tuple[str, ...] | Callable[[Any], bool]]


@record
class ServerOptions:
    """The options of both middlewares, checked; each says what they mean there."""

    app: Callable[..., Any] = option(_app, kw_only=False)
    policy: Policy[Any] | None = option(_policy, default=None, kw_only=False)
    deadline_header: str | None = option(check_header_name, default=DEADLINE_HEADER, none_ok=True)
    default_deadline: SecondsOrNone = option(seconds, default=None, none_ok=True)
    max_deadline: SecondsOrNone = option(seconds, default=None, none_ok=True)
    trust: bool | str | Iterable[str] | Callable[[Any], bool] = option(_trust, default=False)
    priority_header: str | None = option(check_header_name, default=None, none_ok=True)
    tenant_header: str | None = option(check_header_name, default=None, none_ok=True)
    exempt: Exempt = option(_exempt, default=())
    respond: Respond | None = option(function, default=None, takes=("request", "error"))
    server_timing: bool = option(flag, default=False)


@attrs.frozen(kw_only=True)
class Server:
    """The options of a middleware, made ready."""

    options: ServerOptions
    policy: Policy[Any]
    trusts: Callable[[Any], bool]
    paths: frozenset[str]
    prefixes: tuple[str, ...]
    exempts: Callable[[Any], bool] | None
    respond: Callable[[Any, Exception], Any] | None

    @property
    def looks(self) -> bool:
        """Whether more than the whole path has to be looked at to know that a request is not exempt."""
        return bool(self.prefixes) or self.exempts is not None

    @classmethod
    def of(cls, options: ServerOptions, policy: Policy[Any], address_of: Callable[[Any], str | None]) -> Server:
        """
        Return what serves by these options.

        Args:
            options: Of the middleware.

            policy: That of the options, or the default.

            address_of: Gives the peer's address of a request.
        """
        exempt, respond = options.exempt, options.respond
        paths = () if callable(exempt) else exempt
        return cls(
            options=options,
            policy=policy,
            trusts=trust_of("trust", options.trust, address_of),
            paths=frozenset(path for path in paths if not path.endswith("*")),
            prefixes=tuple(path[:-1] for path in paths if path.endswith("*")),
            exempts=safely("exempt", exempt, default=False) if callable(exempt) else None,
            respond=None if respond is None else safely("respond", respond, default=None),
        )

    @property
    def headers(self) -> dict[str, str]:
        """The header that is read for each purpose."""
        options = self.options
        names = {
            "deadline": options.deadline_header,
            "priority": options.priority_header,
            "tenant": options.tenant_header,
        }
        return {name: what for what, name in names.items() if name is not None}

    def exempt(self, request: Any, path: str, mounted: str) -> bool:
        """
        Return True if the request is served without a permit.

        Args:
            request: The request.

            path: All of its path.

            mounted: Where the app is mounted, which the path begins with: a path without that counts as well.
        """
        if path in self.paths or (self.prefixes and path.startswith(self.prefixes)):
            return True
        if mounted:
            inside = path.removeprefix(mounted.rstrip("/"))
            if inside in self.paths or (self.prefixes and inside.startswith(self.prefixes)):
                return True
        return self.exempts is not None and bool(self.exempts(request))

    def hints(self, request: Any, values: Mapping[str, Any]) -> Hints:
        """
        Return what the headers of a request ask for.

        Args:
            request: The request; whether its sender is trusted is a function of it.

            values: The values of its headers that are read: by "deadline", "priority", "tenant".
        """
        if values and not self.trusts(request):
            for what in values:
                note_ignored(what, "untrusted")
            values = {}
        level = read_priority(values.get("priority"))
        return Hints(self._seconds(values.get("deadline")), level, read_tenant(values.get("tenant")))

    def _seconds(self, value: object) -> float | None:
        asked = None if value is None else read_deadline(value, self.options.deadline_header or "")
        if asked is None:
            asked = self.options.default_deadline
        most = self.options.max_deadline
        return asked if asked is None or most is None else min(asked, most)

    def answer(self, request: Any, error: Exception, header: Callable[[str], str | None] | None = None) -> Answer:
        """
        Return the response to a request that `error` refuses, Retry-After included; never raises.

        Args:
            request: For the user's `respond`.

            error: The refusal.

            header: Gives a header of the request by its name in lower case, where the connection is HTTP/1 and the
                app's to close, as after a body that was not read; None: it is not.
        """
        given = self._given(request, error)
        status, more, body = _default(error) if given is None else given
        retry_after = retry_after_header(error)
        names = {name.lower() for name, _ in more}
        if retry_after is not None and "retry-after" not in names:
            more.append(("retry-after", retry_after))
        if "content-length" not in names:
            more.append(("content-length", str(len(body))))
        if header is not None and "connection" not in names and (_unread(header) or _leaving(error)):
            more.append(("connection", "close"))
        return status, more, body

    def _given(self, request: Any, error: Exception) -> Answer | None:
        given = None if self.respond is None else self.respond(request, error)
        if given is None:
            return None
        checked: Answer | None = _checked_answer(given)
        return checked


def _plain_answer(given: Any) -> Answer | None:
    status, headers, body = given
    answer = int(status), [(name, value) for name, value in headers], bytes(body)
    if not 200 <= answer[0] <= 599 or not all(_may_be_sent(part) for pair in answer[1] for part in pair):
        raise ValueError(f"respond must return (status, [(name, value), ...], body), not {given!r}")
    return answer


def _may_be_sent(part: object) -> bool:
    return isinstance(part, str) and not any(sign in "\r\n\0" or sign > "\xff" for sign in part)


_checked_answer = safely("respond", _plain_answer, default=None)


def _default(error: Exception) -> Answer:
    late = isinstance(error, LATE)
    status = 504 if late else 429 if isinstance(error, RateLimitedError) else 503
    body = f"{status} {_PHRASES[status]}\n".encode()
    return status, [("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store")], body


def _unread(header: Callable[[str], str | None]) -> bool:
    """Return True if a body follows that is long, of unknown length, or waits for `100 Continue`."""
    if header("transfer-encoding") or header("expect"):
        return True
    length = header("content-length")
    return bool(length) and not (str(length).isdecimal() and int(str(length)[:18]) <= DRAINED_BYTES)


def _leaving(error: Exception) -> bool:
    """Return True if this process will not serve again: the next request should go to another one."""
    return getattr(error, "reason", None) in ("draining", "drained")
