"""
Common part of the ASGI and the WSGI middleware: options, request headers, and the answer to a rejected request.

A request is a mapping in both: the scope, or the environ. It is the only argument of the policy's functions for keys,
tenants, tasks, weights and costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import attrs

from resilio._context.priority import PriorityClass
from resilio._options.fields import option, record
from resilio._options.validators import flag, function, reject, seconds
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
from resilio.integrations._shared.server_options import HintOptions, policy_or_none
from resilio.integrations._shared.trust import trust_of

if TYPE_CHECKING:
    from resilio._native.core import Permit

__all__ = [
    "EXEMPT",
    "REJECTIONS",
    "TENANT",
    "Answer",
    "Hints",
    "Server",
    "ServerOptions",
    "settle",
    "tenant_of",
]

EXEMPT = ("/health", "/healthz", "/livez", "/readyz")
"""Paths of health checks, which must be answered even under overload. The option `exempt` adds to them."""

LATE = (CallTimeoutError, DeadlineExceededError)
"""Errors of an answer that is late: the app's own, or that of a call which the app made."""

REJECTIONS = (RejectedError, *LATE)
"""Errors answered here if the response has not begun: rejections and timeouts, also of the app's guarded calls."""

TENANT = "resilio.tenant"
"""Key of the tenant in a request, set if a trusted header names it."""

DRAINED_BYTES = 65_536
"""Longest unread body that is left to the server to skip; for a longer one the connection is closed."""

_PHRASES = {429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout"}

Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""

Respond = Callable[[Any, Exception], "tuple[int, Iterable[tuple[str, str]], bytes] | None"]


class Hints(NamedTuple):
    """Deadline, priority and tenant from the headers of a trusted request."""

    seconds: float | None
    level: PriorityClass | None
    tenant: str | None


def tenant_of(request: Mapping[str, Any]) -> str | None:
    """
    Return the tenant of a request by the middleware's `tenant_header`; None without a trusted header.

    For the policy: `load_shed(tenant=tenant_of)`, `keyed(..., key=tenant_of)`.

    Args:
        request: The ASGI scope or the WSGI environ.
    """
    tenant: str | None = request.get(TENANT)
    return tenant


def settle(permit: Permit, status: int) -> None:
    """Settle a permit by the status: 5xx is a failure, 4xx is ignored, all others are successes."""
    if status < 400:
        permit.success()
    elif status < 500:  # as successes, a flood of quick 404s would teach a limit that the server is quicker than it is
        permit.ignore()
    else:
        permit.failure()


def _paths(name: str, value: object) -> tuple[str, ...]:
    """Return the exempt paths with the defaults; an empty tuple for None. "/a/*" includes "/a"."""
    if value is None:
        return ()
    right = "paths, like ('/metrics/*', '/static/*'), a function of the request, or None"
    if isinstance(value, str) or not isinstance(value, Iterable):
        reject(name, value, right, TypeError)
    paths = tuple(value)
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/"):
            reject(name, path, right, ValueError if isinstance(path, str) else TypeError)
    return (*EXEMPT, *paths, *(path[:-2] for path in paths if path.endswith("/*") and path != "/*"))


def _app(name: str, value: object) -> Any:
    return value if callable(value) else reject(name, value, "the app inside, which is called", TypeError)


def _exempt(name: str, value: Any) -> Any:
    return function(name, value, takes=("request",)) if callable(value) else _paths(name, value)


Exempt = Converted[Iterable[str] | Callable[[Any], bool] | None, tuple[str, ...] | Callable[[Any], bool]]


@record
class ServerOptions(HintOptions):
    """The options of both middlewares, checked; documented there."""

    app: Callable[..., Any] = option(_app, kw_only=False)
    policy: Policy[Any] | None = option(policy_or_none, default=None, kw_only=False)
    deadline_header: str | None = option(check_header_name, default=DEADLINE_HEADER, none_ok=True)
    default_deadline: SecondsOrNone = option(seconds, default=None, none_ok=True)
    tenant_header: str | None = option(check_header_name, default=None, none_ok=True)
    exempt: Exempt = option(_exempt, default=())
    respond: Respond | None = option(function, default=None, takes=("request", "error"))
    server_timing: bool = option(flag, default=False)


@attrs.frozen(kw_only=True)
class Server:
    """A middleware's options, prepared for serving."""

    options: ServerOptions
    policy: Policy[Any]
    trusts: Callable[[Any], bool]
    paths: frozenset[str]
    prefixes: tuple[str, ...]
    exempts: Callable[[Any], bool] | None
    respond: Callable[[Any, Exception], Any] | None

    @property
    def looks(self) -> bool:
        """Whether exemption depends on more than the exact path."""
        return bool(self.prefixes) or self.exempts is not None

    @classmethod
    def of(cls, options: ServerOptions, policy: Policy[Any], address_of: Callable[[Any], str | None]) -> Server:
        """
        Return the server for these options.

        Args:
            options: The middleware's options.

            policy: The options' policy, or the default one.

            address_of: Function that returns the peer's address of a request.
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
        """Purpose ("deadline", "priority" or "tenant") by the name of the header that is read for it."""
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

            path: Its full path.

            mounted: The app's mount point, a prefix of the path; the path without it is checked too.
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
        Return the deadline, priority and tenant from the headers of a request.

        Args:
            request: The request, which decides whether its sender is trusted.

            values: The values of its headers, by "deadline", "priority" and "tenant".
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
        most = cast("float | None", self.options.max_deadline)  # inherited: mypy forgets that it is converted
        return asked if asked is None or most is None else min(asked, most)

    def answer(self, request: Any, error: Exception, header: Callable[[str], str | None] | None = None) -> Answer:
        """
        Return the response to a request that `error` rejects, including Retry-After; never raises.

        Args:
            request: For the user's `respond`.

            error: The rejection.

            header: Function that returns a request header by its name in lower case. It is passed if the app may close
                the connection (HTTP/1), as after an unread body; None: the app may not.
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
    """Return True if the request has a body that is long, of unknown length, or waits for `100 Continue`."""
    if header("transfer-encoding") or header("expect"):
        return True
    length = header("content-length")
    return bool(length) and not (str(length).isdecimal() and int(str(length)[:18]) <= DRAINED_BYTES)


def _leaving(error: Exception) -> bool:
    """Return True if this process stops serving, so that the next request should go to another one."""
    return getattr(error, "reason", None) in ("draining", "drained")
