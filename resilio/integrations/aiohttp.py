"""
A middleware for aiohttp's client: a policy around each request, permits until the body has ended.

Why: `session.get` returns with the headers, and a guard around it would take a body that dies half-way for a success.
When not: to guard what a request means, a call that is one of three requests, decorate the function that makes them.
What it is not: a view from outside of redirects, each of which passes the policy as a request of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from resilio import presets
from resilio._config import function
from resilio._native import core
from resilio._native.core import Admission, Exchanges, is_whole, seconds_left
from resilio._outcome import Outcome
from resilio.errors import ResilienceError
from resilio.integrations import _replay
from resilio.integrations._aiohttp_blame import blame
from resilio.integrations._aiohttp_body import Body
from resilio.integrations._aiohttp_lib import BytesPayload
from resilio.integrations._body import settle, tell, untold
from resilio.integrations._exchange import Exchange
from resilio.integrations._judges import judges_of
from resilio.integrations._refusals import in_terms_of
from resilio.integrations._replay import Once, Spent
from resilio.integrations._way import Way, refuse_clocks_alone
from resilio.integrations._wire import DEADLINE_HEADER, check_header_name, write_deadline

if TYPE_CHECKING:
    from resilio._native.core import Permit
    from resilio._policy import Policy

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


class Middleware(Admission):
    """A policy around each request of a client session; see :func:`middleware`, which makes one."""

    __slots__ = ("__weakref__", "_body_of", "_header", "_in_full", "_policy", "_quick", "_replay_safe", "_way")

    def __init__(
        self,
        policy: Policy[Any],
        *,
        failed_if: Callable[[Any], object] | None,
        replay_safe: Callable[[Any], object] | bool | None,
        send_deadline: bool | str,
    ) -> None:
        """Prepare; the arguments are those of :func:`middleware`."""
        self._way = way = Way(policy, judges=judges_of(function("failed_if", failed_if)))
        refuse_clocks_alone(policy)
        self._policy = policy
        self._body_of = _bodies(f"a response of {policy.label}")
        self._replay_safe = _replay.checked(replay_safe)
        self._header = _header(send_deadline)
        hold = _holding(self._body_of)
        kind = _Telling if way.hedged or self._header is not None else _Exchange
        again = _replay.IDEMPOTENT if self._replay_safe is None else frozenset()
        what = way.pipeline, kind, self, again if way.replays else None, ALL
        self._in_full = Exchanges(*what)
        self._quick = None if way.begin is None else Admission(way.begin, hold, _settle, fails_from=ALL)
        if way.begin is None:
            super().__init__(None, hold, _settle, Exchanges(*what, self._watched, untold))
        elif self._header is None:
            super().__init__(way.begin, hold, _settle, self._watched, untold, ALL)
        else:
            super().__init__(None, hold, _settle, self._telling)

    @property
    def policy(self) -> Policy[Any]:
        """The policy."""
        return self._policy

    def _telling(self, request: Any, handler: Handler) -> Awaitable[Any]:
        """Send a request that tells its deadline when it has its permit."""
        quick = self._quick
        if quick is None or untold() or _current() is not None:
            return self._watched(request, handler)
        return quick(request, partial(self._tell, handler))

    def _tell(self, handler: Handler, request: Any) -> Awaitable[Any]:
        self._tell_deadline(request)
        return handler(request)

    async def _watched(self, request: Any, handler: Handler) -> Any:
        """Send a request within a guarded call that wants to know more, or with news to be told."""
        if untold():
            tell()
        response = await self._in_full(request, handler)
        if _current() is not None:
            _phase("body" if getattr(response, "connection", None) is not None else None)
        return response

    def _tell_deadline(self, request: Any) -> None:
        header = self._header
        if header is not None and (left := write_deadline(seconds_left(), header)) is not None:
            request.headers[header] = left

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._policy!r}>"


ALL = 600
"""More than any status."""


def _bodies(label: str) -> Callable[[Any], Body | None]:
    """Return what returns what holds the permits of a response; None if it is whole already."""

    def body_of(response: Any) -> Body | None:
        if is_whole(response, ALL):  # without the frames of two properties and a method
            return None
        if response.connection is None and (response.content is None or response.content.exception() is None):
            return None
        return Body(response, label)

    return body_of


def _holding(body_of: Callable[[Any], Body | None]) -> Callable[[Permit, Any], None]:
    """Return what puts a permit with a response until its body has ended; of one that is whole, it ends it."""

    def hold(permit: Permit, response: Any) -> None:
        body = body_of(response)
        if body is None:
            permit.returned(response)
        else:
            body.take(permit, response)

    return hold


def _settle(permit: Permit | None, error: BaseException, request: Any) -> BaseException | None:
    """End the permit of a request that has raised; what is returned is raised in place of `error`."""
    if permit is not None:
        settle(permit, error, blame(error, request))
    return _told(error) if isinstance(error, ResilienceError) else None


def _told(error: ResilienceError) -> BaseException:
    """Return an error of resilio's as aiohttp's users know errors."""
    translated = in_terms_of(error, _BASE)
    if translated is not error:
        translated.__suppress_context__ = True
    return translated


class _Exchange(Exchange):
    """One request, which may be sent several times."""

    __slots__ = ()

    def stand_in(self) -> Any:
        """Return what strategies see of the request: itself, or what is gone once it was sent."""
        if _may_replay(self.request, self.owner._replay_safe):
            return self.request
        self.fails_from = 1
        return Spent(self.request) if self.owner._way.hedged else Once(self.request)

    def look_at(self, answer: Any) -> None:
        """Note what is held of a response that is not whole; one that comes too late is let go of."""
        middleware = self.owner
        if type(self.shown) is Spent and not middleware._way.hedged and _replay.may_repeat(answer):
            self.shown.sent(undone=True)
        body = middleware._body_of(answer)
        if body is not None:
            self.answered(answer, body)
        elif self.over:
            answer.close()

    def told(self, error: BaseException) -> BaseException:
        return _told(error) if isinstance(error, ResilienceError) else error

    def close(self, answer: Any) -> None:
        answer.close()

    def blame(self, error: BaseException) -> BaseException | Outcome:
        return blame(error, self.request)


class _Telling(_Exchange):
    """One whose tries differ: copies of a hedge beside each other, or headers that tell what time is left."""

    __slots__ = ()

    def attempt(self, shown: Any) -> Awaitable[Any]:
        """Send the request, or a copy, once."""
        middleware = self.owner
        hedged = middleware._way.hedged
        mine = _copy(self.request) if hedged else self.request
        middleware._tell_deadline(mine)
        return self._send_copy(mine) if hedged else super().attempt(shown)

    async def _send_copy(self, copied: Any) -> Any:
        _phase("connect")
        send = copied.send

        def sending(connection: Any) -> Any:
            _phase("first_byte")
            return send(connection)

        copied.send = sending
        try:
            return await self.sender(copied)
        finally:  # each knows the other
            del copied.send


def _header(value: object) -> str | None:
    """Return the header that tells the deadline, None if none does."""
    return (
        (DEADLINE_HEADER if value else None) if isinstance(value, bool) else check_header_name("send_deadline", value)
    )


def _may_replay(request: Any, replay_safe: Any) -> bool:
    if not isinstance(request.body, (bytes, BytesPayload)) or request.headers.get("expect"):
        return False
    if replay_safe is None and request.method in _replay.IDEMPOTENT:
        return True
    return _replay.is_safe(replay_safe, request, request.method, request.headers)


def _copy(request: Any) -> Any:
    """Return a request for a copy: what it is sent by is its own, the body is shared."""
    copied: Any = object.__new__(request.__class__)
    copied.__dict__.update(request.__dict__)
    copied.__dict__.pop("send", None)
    copied.headers = request.headers.copy()
    return copied


def middleware(
    policy: Policy[Any],
    *,
    failed_if: Callable[[Any], object] | None = presets.http.failing_result,
    replay_safe: Callable[[Any], object] | bool | None = None,
    send_deadline: bool | str = False,
) -> Middleware:
    """
    Return a middleware that sends each request through a policy: `ClientSession(middlewares=(middleware(policy),))`.

    Permits are held until the body has ended. Redirects, and aiohttp's one attempt more on a connection that was closed
    meanwhile, pass the policy as requests of their own. A WebSocket holds its permit until it is closed.

    Args:
        policy: Any policy; key, cost and weight functions get the `aiohttp.ClientRequest`.

        failed_if: Which responses are failures for policies that were given no rule of their own, as a function of the
            response; the default: 5xx. None: none is.

        replay_safe: Whether a request that was sent may be sent again by retries and hedges: those of idempotent
            methods or with an `Idempotency-Key` (None), all (True), none (False), or as a function of the request. One
            whose body is a stream never is.

        send_deadline: Whether the seconds left of the ambient deadline are sent along, as the header
            `x-request-timeout`, or one of that name.

    Raises:
        TypeError: An option of a wrong type.

        ValueError: No header's name.
    """
    return Middleware(policy, failed_if=failed_if, replay_safe=replay_safe, send_deadline=send_deadline)
