"""
Transports for httpx and httpx2 under guard: one policy for all requests of a client, or one for each host.

Why here: a transport sees each request on the wire, redirects and auth flows included, and its body to the last byte;
a decorated function sees neither. When not: a policy that judges the content of answers belongs around the function
that reads them. It is not a client, nor a place for the retries of non-idempotent requests.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from resilio._native.core import phase, seconds_left
from resilio._options.validators import reject
from resilio._policies.pool.chosen import pool_of
from resilio._support.client_target import mark_as_heeding_time
from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError
from resilio.integrations._httpx import common, endpoints
from resilio.integrations._httpx.body import in_time
from resilio.integrations._httpx.resume import resumable
from resilio.integrations._httpx.transport import GuardedTransport
from resilio.integrations._shared.client_parts import require_inside
from resilio.integrations._shared.socket_time import end_late

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from resilio._native.core import Permit
    from resilio._native.strategies import TimeoutGate
    from resilio._policies.pool.endpoint import Endpoint
    from resilio._policy.base import Policy

    # For type checkers a transport is Any. Its instances have a base class of the client, which is known only when one
    # is made: httpx and httpx2 each require their own.
    _OfTheClient = Any
else:
    _OfTheClient = object

__all__ = ["AsyncTransport", "Transport", "endpoint_of", "guard_client", "host"]

C = TypeVar("C")


def host(request: Any) -> str:
    """
    Return the host of a request, with its port unless it is the scheme's default: `keyed(circuit_breaker, key=host)`.

    Args:
        request: A request of httpx or httpx2.
    """
    return str(request.url.netloc, "ascii")


def endpoint_of(response: Any) -> Endpoint | None:
    """
    Return the endpoint of a pool that has sent a response; None if it came past the pool.

    Args:
        response: A response of httpx or httpx2.
    """
    found: Endpoint | None = response.extensions.get(endpoints.ENDPOINT)
    return found


_returns_with_headers = partial(mark_as_heeding_time, to_headers=True)


class AsyncTransport(GuardedTransport, _OfTheClient):  # type: ignore[misc]
    """An async transport of httpx or httpx2 under guard: `httpx.AsyncClient(transport=AsyncTransport(policy))`."""

    _base, _default, _send_by = "AsyncBaseTransport", "AsyncHTTPTransport", "handle_async_request"
    _sync = False

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request through the policy; its permits end with the body of the response."""
        if not isinstance(request, self._request):
            self._reject(request)
        try:
            response = await self._way(request).send(self._send, request)
        except (RejectedError, DeadlineExceededError, CallTimeoutError) as error:
            return self._rejected(error, request)
        if self._resumes:
            resumable(self._module, self, request, response, is_async=True)
        return response

    async def _send(self, request: Any) -> Any:
        phase("first_byte")
        sent = request if self._service is None else self._at_endpoint(request, self._service)
        if self._header is not None:
            self._header.write(sent.headers)
        once = self._once(request)
        try:
            answer = self._inner.handle_async_request(sent)
            response = await (answer if self._first is None else self._in_time(answer, self._first))
        except Exception as error:
            if once:
                self._note_repeatable(request, error)
            raise
        if once and self._repeats:
            self._note_repeatable(request, response)
        body = self._around_body(request, response)
        if self._idle is not None and body is not None:
            body.limit(sent)
        if sent is not request:
            endpoints.answered(request, sent, response)
        if self._call.hedged:
            response._resilio_discard = _aclose
        return response

    async def _in_time(self, sent: Awaitable[Any], gate: TimeoutGate) -> Any:
        limit = gate.first
        return await (sent if limit is None else in_time(sent, gate, "first", limit))

    async def __aenter__(self) -> Self:
        """Enter the transport inside."""
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the transport inside."""
        await self._inner.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()


class Transport(GuardedTransport, _OfTheClient):  # type: ignore[misc]
    """A transport of httpx or httpx2 for threads under guard: `httpx.Client(transport=Transport(policy))`."""

    _base, _default, _send_by = "BaseTransport", "HTTPTransport", "handle_request"
    _sync = True

    def handle_request(self, request: Any) -> Any:
        """Send a request through the policy; its permits end with the body of the response."""
        if not isinstance(request, self._request):
            self._reject(request)
        try:
            response = self._way(request).send(self._send, request)
        except (RejectedError, DeadlineExceededError, CallTimeoutError) as error:
            return self._rejected(error, request)
        if self._resumes:
            resumable(self._module, self, request, response, is_async=False)
        return response

    @_returns_with_headers
    def _send(self, request: Any) -> Any:
        phase("first_byte")
        sent = request if self._service is None else self._at_endpoint(request, self._service)
        if self._header is not None:
            self._header.write(sent.headers)
        once = self._once(request)
        try:
            response = self._send_on(sent)
        except Exception as error:
            if once:
                self._note_repeatable(request, error)
            raise
        if once and self._repeats:
            self._note_repeatable(request, response)
        body = self._around_body(request, response)
        if self._times.acts and body is not None:
            body.limit(sent, self._times.begin())
        if sent is not request:
            endpoints.answered(request, sent, response)
        return response

    def _send_on(self, request: Any) -> Any:
        if seconds_left() is None:
            return self._inner.handle_request(request)
        return common.send_in_time(self._module, self._inner, request)

    def _settle(self, permit: Permit, error: BaseException) -> None:
        if not end_late(permit, error):
            super()._settle(permit, error)

    def __enter__(self) -> Self:
        """Enter the transport inside."""
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Leave the transport inside."""
        self._inner.__exit__(kind, error, traceback)

    def close(self) -> None:
        """Close the transport inside."""
        self._inner.close()


def guard_client(client: C, policy: Policy[Any], **options: Any) -> C:
    """
    Put a policy around all transports of a client, those for proxies and mounts included, and return the client.

    Args:
        client: An `AsyncClient` or `Client` of httpx or httpx2, before its first request.

        policy: As for `AsyncTransport`. A pool serves the client's base URL.

        options: The other options of `AsyncTransport`.

    Raises:
        TypeError: Another client, or a version of it that keeps its transports elsewhere.

        ValueError: The client is guarded already.
    """
    kind = AsyncTransport if common.client_of(client, "AsyncClient") is not None else Transport
    if kind is Transport and common.client_of(client, "Client") is None:
        reject("client", client, "an AsyncClient or a Client of httpx or httpx2", TypeError)
    held: Any = client
    require_inside(held, "_transport", "_mounts", instead=f"{kind.__name__}(policy) as the client's `transport=`")
    transports = [held._transport, *held._mounts.values()]
    if any(isinstance(one, GuardedTransport) for one in transports):
        raise ValueError("this client is guarded already: a second guard would take two permits for each request")
    if pool_of(policy) is not None and held.base_url.host:
        options.setdefault("origin", str(held.base_url.copy_with(raw_path=b"/")))
    guarded = {id(one): kind(policy, one, **options) for one in transports if one is not None}
    held._transport = guarded[id(held._transport)]
    held._mounts = {pattern: one if one is None else guarded[id(one)] for pattern, one in held._mounts.items()}
    return client


def _aclose(response: Any) -> Any:
    return response.aclose()
