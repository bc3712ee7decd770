"""
A middleware for aiohttp's client: a policy around each request, permits until the body has ended.

Why: `session.get` returns with the headers, and a guard around it would take a body that dies half-way for a success.
When not: to guard an operation of several requests, decorate the function that makes them. It does not see redirects
from outside: each passes the policy as a request of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from resilio import presets
from resilio._native import core
from resilio._options.validators import function
from resilio.errors import ResilienceError
from resilio.integrations._aiohttp import endpoints
from resilio.integrations._aiohttp.blame import blame
from resilio.integrations._aiohttp.body import Body
from resilio.integrations._aiohttp.lib import EXPECT, BytesPayload
from resilio.integrations._shared import replay
from resilio.integrations._shared.endpoints import Service, service_of
from resilio.integrations._shared.guarded_call import GuardedCall, reject_clocks_alone
from resilio.integrations._shared.held_permits import settle
from resilio.integrations._shared.judges import judges_of
from resilio.integrations._shared.replay import Once, Spent
from resilio.integrations._shared.request import Request
from resilio.integrations._shared.translate import in_terms_of
from resilio.integrations._shared.upstream import Upstream, upstream

if TYPE_CHECKING:
    from resilio._native.core import Held
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policy.base import Policy

__all__ = ["Middleware", "endpoint_of", "host", "middleware"]

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


def endpoint_of(response: Any) -> Endpoint | None:
    """
    Return the endpoint of a pool that has sent a response; None if it came past the pool.

    Args:
        response: An `aiohttp.ClientResponse`.
    """
    found: Endpoint | None = getattr(response, "_resilio_endpoint", None)
    return found


class Middleware:
    """A policy around each request of a client session; see :func:`middleware`, which makes one."""

    __slots__ = (
        "__weakref__",
        "_sends_once",
        "call",
        "elsewhere",
        "header",
        "idempotent",
        "label",
        "prepares",
        "service",
    )

    def __init__(
        self,
        policy: Policy[Any],
        *,
        failed_if: Callable[[Any], object] | None,
        idempotent: Callable[[Any], object] | bool | None,
        sends: Upstream | None,
        origin: str | None,
    ) -> None:
        """Prepare; the arguments are those of :func:`middleware`."""
        judges = judges_of(function("failed_if", failed_if))
        self.call: GuardedCall = GuardedCall(policy, self._hand_over, judges=judges)
        self.elsewhere: GuardedCall = self.call
        reject_clocks_alone(policy)
        self.service: Service | None = service_of(policy, origin)
        if self.service is not None:
            self.elsewhere = GuardedCall(policy, self._hand_over, pooled=False, judges=judges)
        self.label: str = f"a response of {policy.label}"
        self.idempotent: replay.Rule = replay.checked(idempotent)
        self.header: Upstream | None = sends
        self.prepares: bool = self.call.hedged or self.service is not None or sends is not None
        self._sends_once: bool = not (self.prepares or self.call.replays)

    @property
    def policy(self) -> Policy[Any]:
        """The policy."""
        return self.call.policy

    async def __call__(self, request: Any, handler: Handler) -> Any:
        """Send a request through the policy; its permits end with the body of the response."""
        call, send, shown, sent, response = self.call, handler, request, None, None
        # With one answer at most it begins with the handler: 5,700 instructions of a breaker, 11,000 with an attempt.
        if not self._sends_once or _current() is not None:  # a call around it records phases
            sent = _Request(self, request, handler)
            send, shown = sent.attempt, sent.shown
            if self.service is not None and not sent.is_pooled:
                call = self.elsewhere
        try:
            response = await call.send(send, shown)
        except ResilienceError as error:
            raise in_terms_of(error, _BASE) from error.__cause__
        finally:
            if sent is not None:
                sent.over = True
                if sent.leases:
                    sent.finish(response)
        if sent is not None and sent.is_watched:
            _phase("body" if getattr(response, "connection", None) is not None else None)
        return response

    def _hand_over(self, held: Held) -> None:
        """Put the permit of an answer with a body to come into its lease; end that of an attempt that has raised."""
        answer = held.answer
        if self._sends_once and answer is not None and answer.connection is None:  # as `_is_whole`, in a frame less
            content = answer.content
            if content is None or content.exception() is None:
                return
        sent, error = getattr(held.function, "__self__", None), held.error
        if type(sent) is not _Request and not self._sends_once:
            return  # of a hedge's other target
        if error is not None:
            settle(held.take(), error, blame(error, held.request))
        elif type(sent) is not _Request:
            Body(answer, self.label).take(held.take(), answer)
        elif sent.leases and (lease := sent.lease_of(answer)) is not None:
            lease.take(held.take(), answer)
        elif sent.over:
            held.take().ignore()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.policy!r}>"


class _Request(Request):
    """One request that needs more than the handler: it may be sent several times, to endpoints, or in phases."""

    __slots__ = ("_handler", "_owner", "_request", "is_pooled", "is_watched", "shown")

    def __init__(self, owner: Middleware, request: Any, handler: Handler) -> None:
        self.leases = ()
        self.over = False
        self._owner = owner
        self._request = self.shown = request
        self._handler = handler
        self.is_pooled = owner.service is not None and endpoints.is_for(owner.service, request)
        self.is_watched = _current() is not None  # a call around it records phases
        if owner.call.replays and not _may_repeat(request, owner.idempotent):
            self.shown = Spent(request) if owner.call.hedged else Once(request)  # used up once it is sent

    async def attempt(self, shown: Any) -> Any:
        owner, request, endpoint = self._owner, self._request, None
        if owner.prepares:
            request, endpoint = self._prepared()
        send = sending = request.send
        if self.is_watched or owner.call.replays:
            sending = request.send = partial(_sending, request, send, shown)
            _phase("connect")
        try:
            response = await self._handler(request)
        finally:  # request and `sending` refer to each other
            if sending is not send and request.send is sending:
                _restore(request, send)
        if endpoint is not None:
            endpoints.answered(self._request, request, response, endpoint)
        if type(shown) is Spent and not owner.call.hedged and replay.may_repeat(response):
            shown.sent(undone=True)
        if not _is_whole(response):
            self.answered(response, Body(response, owner.label))
        elif self.over:
            response.close()
        return response

    def _prepared(self) -> tuple[Any, Endpoint | None]:
        """Return the request, or a copy, as this attempt sends it, and the endpoint that it has picked."""
        owner, request, endpoint = self._owner, self._request, None
        if self.is_pooled and owner.service is not None:
            endpoint = owner.service.endpoint(owner.call.pipe)
        if endpoint is not None:
            request = endpoints.at(request, endpoint)
        elif owner.call.hedged:
            request = endpoints.copied(request)
        if owner.header is not None:
            owner.header.write(request.headers)
        return request, endpoint

    def close(self, answer: Any) -> None:
        answer.close()


def _sending(request: Any, send: Any, shown: Any, connection: Any) -> Any:
    """Send a request, or a copy, on its connection, with which the phase `connect` ends."""
    # Where a strategy or a call around wants to know of the connection: 4,900 of the 26,000 instructions of `standard`.
    if getattr(send, "__func__", None) is type(request).send:  # as `_restore` does, in a frame less
        del request.send
    else:
        request.send = send
    _phase("first_byte")
    if shown is not request and isinstance(shown, Once):
        shown.sent()
    return send(connection)


def _restore(request: Any, send: Any) -> None:
    """Restore the `send` of a request: the method of its class, or that of a middleware around this one."""
    if getattr(send, "__func__", None) is type(request).send:
        del request.send  # through its `__dict__` all of its attributes would be slower from then on
    else:
        request.send = send


def _is_whole(response: Any) -> bool:
    """Return True if a response ended well with its headers, as short ones do: it holds no connection any more."""
    if response.connection is not None:
        return False
    content = response.content
    return content is None or content.exception() is None


def _may_repeat(request: Any, idempotent: replay.Rule) -> bool:
    body = request.body
    if not (type(body) is bytes or isinstance(body, BytesPayload)) or request.headers.get(EXPECT):
        return False
    if idempotent is None and request.method in replay.IDEMPOTENT:
        return True
    return replay.is_safe(idempotent, request, request.method, request.headers)


def middleware(
    policy: Policy[Any],
    *,
    failed_if: Callable[[Any], object] | None = presets.http.failing_result,
    idempotent: Callable[[Any], object] | bool | None = None,
    send_deadline: bool | str = False,
    send_attempt: bool | str = False,
    origin: str | None = None,
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

        origin: The URL by which callers name the policy's pool, like "https://api.example.com": its requests go to
            endpoints, all others where they say. None: any URL with the pool's name as its host.

    Raises:
        TypeError: An option of a wrong type.

        ValueError: `send_deadline` or `send_attempt` is not a valid name of a header; or no such `origin`.
    """
    sends = upstream(send_deadline, send_attempt)
    return Middleware(policy, failed_if=failed_if, idempotent=idempotent, sends=sends, origin=origin)
