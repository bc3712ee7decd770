"""
A middleware for aiohttp's client: a policy around each request, permits until the body has ended.

Why: `session.get` returns with the headers, and a guard around it would take a body that dies half-way for a success.
When not: to guard what a request means, a call that is one of three requests, decorate the function that makes them.
What it is not: a view from outside of redirects, each of which passes the policy as a request of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from resilio import presets
from resilio._config import function
from resilio._deadline import remaining
from resilio._native import core
from resilio._outcome import Outcome, judge_value
from resilio.errors import ResilienceError
from resilio.integrations import _replay
from resilio.integrations._aiohttp_body import Body, out_of_time
from resilio.integrations._aiohttp_lib import BytesPayload, aiohttp
from resilio.integrations._refusals import in_terms_of
from resilio.integrations._through import Exchange, Once, Route, Spent
from resilio.integrations._wire import DEADLINE_HEADER, check_header_name, write_deadline

if TYPE_CHECKING:
    from types import TracebackType

    from resilio._policy import Policy

__all__ = ["Middleware", "host", "middleware"]

_BASE = ("aiohttp", "ClientError")
_phase: Callable[[str], object] = getattr(core, "phase", lambda _: None)

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

    __slots__ = ("_failing", "_header", "_label", "_policy", "_replay_safe", "_route")

    def __init__(
        self,
        policy: Policy[Any],
        *,
        failed_if: Callable[[Any], object] | None,
        replay_safe: Callable[[Any], object] | bool | None,
        send_deadline: bool | str,
    ) -> None:
        """Prepare; the arguments are those of :func:`middleware`."""
        self._route = Route(policy)
        self._policy = policy
        self._label = f"a response of {policy.label}"
        self._failing = judge_value(function("failed_if", failed_if))
        self._replay_safe = _replay.checked(replay_safe)
        self._header = _header(send_deadline)

    @property
    def policy(self) -> Policy[Any]:
        """The policy."""
        return self._policy

    async def __call__(self, request: Any, handler: Handler) -> Any:
        """Send a request through the policy, as aiohttp calls its middlewares."""
        exchange = _Exchange(self, request, handler)
        try:
            response: Any = await self._route.run(exchange, exchange.shown)
        except ResilienceError as refusal:
            raise in_terms_of(refusal, _BASE) from refusal.__cause__
        return response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._policy!r}>"


class _Exchange(Exchange):
    """One request, which may be sent several times."""

    __slots__ = ("_copied", "_handler", "_middleware", "_request", "shown")

    def __init__(self, middleware: Middleware, request: Any, handler: Handler) -> None:
        super().__init__()
        route = middleware._route
        self._middleware = middleware
        self._request = request
        self._handler = handler
        self._copied = route.hedged
        self.shown: Any = request  # what strategies see of it
        if route.replays and not _may_replay(request, middleware._replay_safe):
            self.shown = Spent(request) if route.hedged else Once(request)

    async def attempt(self, request: Any) -> Any:
        """Send the request once."""
        middleware = self._middleware
        mine = _copy(self._request) if self._copied else self._request
        header = middleware._header
        if header is not None and (left := write_deadline(remaining(), header)) is not None:
            mine.headers[header] = left
        _phase("connect")
        before = mine.__dict__.get("send")
        mine.send = self._sending(mine.send)
        try:
            response = await self._handler(mine)
        finally:  # each knows the other
            del mine.send
            if before is not None:
                mine.send = before
        failing = middleware._failing
        verdict = None if failing is None else failing(response)
        if isinstance(request, Spent) and not middleware._route.hedged and _replay.may_repeat(response):
            request.sent(undone=True)
        self.answered(response, Body(response, verdict, middleware._label))
        _phase("body")
        return response

    def _sending(self, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return what notes that the request has got its connection, and sends it."""
        shown = self.shown

        def sending(connection: Any) -> Any:
            _phase("first_byte")
            if isinstance(shown, Once):
                shown.sent()
            return send(connection)

        return sending

    def close(self, answer: Any) -> None:
        answer.close()

    def blame(self, error: BaseException) -> BaseException | Outcome:
        if isinstance(error, asyncio.CancelledError):
            if not out_of_time(self._request):
                return error
            return Outcome.IGNORED if _waited_for_pool(error) else TimeoutError()
        return Outcome.IGNORED if _is_callers_fault(error) else error


def _header(value: object) -> str | None:
    """Return the header that tells the deadline, None if none does."""
    return (
        (DEADLINE_HEADER if value else None) if isinstance(value, bool) else check_header_name("send_deadline", value)
    )


def _may_replay(request: Any, replay_safe: Any) -> bool:
    if not isinstance(request.body, (bytes, BytesPayload)) or request.headers.get("expect"):
        return False
    return _replay.is_safe(replay_safe, request, request.method, request.headers)


def _copy(request: Any) -> Any:
    """Return a request for a copy: what it is sent by is its own, the body is shared."""
    copied: Any = object.__new__(request.__class__)
    copied.__dict__.update(request.__dict__)
    copied.__dict__.pop("send", None)
    copied.headers = request.headers.copy()
    return copied


def _is_callers_fault(error: BaseException) -> bool:
    """Tell what says nothing about the dependency: it never came to that, or the request could not be made."""
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return True
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _waited_for_pool(error)
    if type(error) is aiohttp.ClientConnectionError:  # the body's source has raised, or the connector is closed
        return not isinstance(error.__cause__, OSError)
    return isinstance(error, _MISTAKES) and not isinstance(error, (aiohttp.ClientError, OSError, ResilienceError))


_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _waited_for_pool(error: BaseException) -> bool:
    """Tell whether time was up while the request waited for a free connection: aiohttp has one error for both."""
    seen: BaseException | None = error
    while seen is not None:
        traceback: TracebackType | None = seen.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_name == "_wait_for_available_connection":
                return True
            traceback = traceback.tb_next
        seen = seen.__cause__ or seen.__context__
    return False


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

        failed_if: Which responses are failures for the policy's gates, as a function of the response; the default: 5xx.
            None: what the policy's own `failed_if` says, as retries, hedges and fallbacks do in any case.

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
