"""
A middleware for aiohttp's client: a policy around each request, permits until the body has ended.

Why: `session.get` returns with the headers, and a guard around it would take a body that dies half-way for a success.
When not: to guard an operation of several requests, decorate the function that makes them. It does not see redirects
from outside: each passes the policy as a request of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from resilio import presets
from resilio._native import core
from resilio._options.validators import function
from resilio.errors import ResilienceError
from resilio.integrations._aiohttp.blame import blame
from resilio.integrations._aiohttp.body import Body
from resilio.integrations._aiohttp.lib import BytesPayload
from resilio.integrations._shared import replay
from resilio.integrations._shared.guarded_call import GuardedCall, reject_clocks_alone
from resilio.integrations._shared.judges import judges_of
from resilio.integrations._shared.replay import Once, Spent
from resilio.integrations._shared.request import Request, hand_over
from resilio.integrations._shared.translate import in_terms_of
from resilio.integrations._shared.upstream import Upstream, upstream

if TYPE_CHECKING:
    from resilio._failures.outcome import Outcome
    from resilio._policy.base import Policy

__all__ = ["Middleware", "host", "middleware"]

_BASE = ("aiohttp", "ClientError")
_current, _phase = core.current, core.phase

Handler = Callable[[Any], Awaitable[Any]]


def host(request: Any) -> str:
    """
    Return "host:port" of a request: `keyed(circuit_breaker, key=host)` has a breaker for each.

    Args:
        request: An `aiohttp.ClientRequest`.
    """
    return f"{request.url.raw_host}:{request.url.port}"


class Middleware:
    """A policy around each request of a client session; see :func:`middleware`, which makes one."""

    __slots__ = ("__weakref__", "call", "header", "idempotent", "label")

    def __init__(
        self,
        policy: Policy[Any],
        *,
        failed_if: Callable[[Any], object] | None,
        idempotent: Callable[[Any], object] | bool | None,
        sends: Upstream | None,
    ) -> None:
        """Prepare; the arguments are those of :func:`middleware`."""
        self.call: GuardedCall = GuardedCall(policy, hand_over, judges=judges_of(function("failed_if", failed_if)))
        reject_clocks_alone(policy)
        self.label: str = f"a response of {policy.label}"
        self.idempotent: replay.Rule = replay.checked(idempotent)
        self.header: Upstream | None = sends

    @property
    def policy(self) -> Policy[Any]:
        """The policy."""
        return self.call.policy

    async def __call__(self, request: Any, handler: Handler) -> Any:
        """Send a request through the policy; its permits end with the body of the response."""
        sent, response = _Request(self, request, handler), None
        try:
            response = await self.call.send(sent.attempt, sent.shown)
        except ResilienceError as error:
            raise in_terms_of(error, _BASE) from error.__cause__
        finally:
            sent.finish(response)
        if _current() is not None:
            _phase("body" if getattr(response, "connection", None) is not None else None)
        return response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.policy!r}>"


class _Request(Request):
    """One request, which may be sent several times."""

    __slots__ = ("_handler", "_is_watched", "_owner", "_request", "shown")

    def __init__(self, owner: Middleware, request: Any, handler: Handler) -> None:
        self.leases = ()
        self.over = False
        self._owner = owner
        self._request = self.shown = request
        self._handler = handler
        self._is_watched = _current() is not None  # a call around it records phases
        if owner.call.replays and not _may_repeat(request, owner.idempotent):
            self.shown = Spent(request) if owner.call.hedged else Once(request)  # used up once it is sent

    async def attempt(self, shown: Any) -> Any:
        owner, request = self._owner, self._request
        if owner.call.hedged:
            request = _copy(request)
        if owner.header is not None:
            owner.header.write(request.headers)
        if owner.call.replays or self._is_watched:
            response = await _noting_connection(self._handler, request, shown)
        else:
            response = await self._handler(request)
        if type(shown) is Spent and not owner.call.hedged and replay.may_repeat(response):
            shown.sent(undone=True)
        if not _is_whole(response):
            self.answered(response, Body(response, owner.label))
        elif self.over:
            response.close()
        return response

    def close(self, answer: Any) -> None:
        answer.close()

    def blame(self, error: BaseException) -> BaseException | Outcome:
        return blame(error, self._request)


async def _noting_connection(handler: Handler, request: Any, shown: Any) -> Any:
    """Send a request, or a copy, and end the phase `connect` when aiohttp calls its `send`, with a connection."""
    own = request.__dict__
    before, send = own.get("send"), request.send

    def sending(connection: Any) -> Any:
        _restore(own, before)
        _phase("first_byte")
        if isinstance(shown, Once):
            shown.sent()
        return send(connection)

    _phase("connect")
    own["send"] = sending
    try:
        return await handler(request)
    finally:  # request and `sending` refer to each other
        if own.get("send") is sending:
            _restore(own, before)


def _restore(own: dict[str, Any], before: Any) -> None:
    """Restore the `send` of a request: the method of its class, or that of a middleware around this one."""
    if before is None:
        del own["send"]
    else:
        own["send"] = before


def _is_whole(response: Any) -> bool:
    """Return True if a response ended well with its headers, as short ones do: it holds no connection any more."""
    if response.connection is not None:
        return False
    content = response.content
    return content is None or content.exception() is None


def _may_repeat(request: Any, idempotent: Any) -> bool:
    if not isinstance(request.body, (bytes, BytesPayload)) or request.headers.get("expect"):
        return False
    if idempotent is None and request.method in replay.IDEMPOTENT:
        return True
    return replay.is_safe(idempotent, request, request.method, request.headers)


def _copy(request: Any) -> Any:
    """Return a copy of a request with headers and `send` of its own; the body is shared."""
    copied: Any = object.__new__(request.__class__)
    copied.__dict__.update(request.__dict__)
    copied.__dict__.pop("send", None)
    copied.headers = request.headers.copy()
    return copied


def middleware(
    policy: Policy[Any],
    *,
    failed_if: Callable[[Any], object] | None = presets.http.failing_result,
    idempotent: Callable[[Any], object] | bool | None = None,
    send_deadline: bool | str = False,
    send_attempt: bool | str = False,
) -> Middleware:
    """
    Return a middleware that sends each request through a policy: `ClientSession(middlewares=(middleware(policy),))`.

    Permits are held until the body has ended. Redirects pass the policy as requests of their own, and so does aiohttp's
    one further attempt after a stale connection. A WebSocket holds its permit until it is closed.

    Args:
        policy: Any policy; key, cost and weight functions get the `aiohttp.ClientRequest`.

        failed_if: Predicate of a response, True for a failure, used by policies without a rule of their own. The
            default: 5xx. None: no response is a failure.

        idempotent: The requests that retries and hedges may send again after they have reached the server: those of
            idempotent methods or with an `Idempotency-Key` (None), all (True), none (False), or those for which a
            function returns True. A request whose body is a stream is never sent again.

        send_deadline: Send the seconds left of the ambient deadline in a header: True for `x-request-timeout`, or the
            header's name.

        send_attempt: Send the number of the attempt, 1 for the first, a hedge's copy counted too, in a header: True for
            `x-envoy-attempt-count`, or the header's name.

    Raises:
        TypeError: An option of a wrong type.

        ValueError: `send_deadline` or `send_attempt` is not a valid name of a header.
    """
    sends = upstream(send_deadline, send_attempt)
    return Middleware(policy, failed_if=failed_if, idempotent=idempotent, sends=sends)
