"""
A pure ASGI middleware: admits each request by a policy, for as long as its response takes, or answers it at once.

Why: a server that takes all that it is offered answers nothing in time. In front of the app, a load shedder, a limit or
a rate limit answers what cannot be served with 503 or 429 and Retry-After, before the request's body is read. When not:
around single handlers, which a decorator guards. What it is not: a retry. A response that has begun cannot be taken
back, so the app is called once or not at all.

It serves HTTP and websockets, on asyncio and trio, in FastAPI, Starlette or around any ASGI app.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from sys import modules
from typing import Any

from resilio._context.priority import priority
from resilio._native.core import Permit
from resilio._options.fields import option, record
from resilio._options.validators import flag
from resilio._policies.deadline import deadline
from resilio._policies.load_shed import load_shed
from resilio._policy.factory import takes
from resilio.integrations._servers.asgi_queue import admit
from resilio.integrations._servers.asgi_request import (
    HTTPContext,
    RequestContext,
    Scope,
    SocketContext,
    TimedHTTPContext,
)
from resilio.integrations._servers.middleware import REFUSALS, TENANT, Server, ServerOptions, tenant_of
from resilio.integrations._shared.headers import ignored_headers

__all__ = ["Middleware", "ignored_headers", "tenant_of"]

App = Callable[[Any, Any, Any], Awaitable[None]]  # each framework has types of its own for the three, which do not mix


@record
class ASGIOptions(ServerOptions):
    """The options of the ASGI middleware."""

    enforce_deadline: bool = option(flag, default=True)


class Middleware:
    """
    An ASGI app around another: each request is admitted by the policy or answered at once; see the module.

    `app = Middleware(app, load_shed())`; `app.add_middleware(Middleware, policy=load_shed())` in FastAPI and Starlette.
    A permit lasts to the last byte of the response, or until the client has left, or until the app ends. A status of
    500 or more and an exception are failures, one of 400 to 499 and a client that leaves say nothing about the app;
    latency is that of the first byte of the body.

    Attributes:
        app: The app inside.

        policy: What admits requests.
    """

    @takes(ASGIOptions)
    def __init__(self, options: ASGIOptions) -> None:
        """
        Put the middleware around `app`.

        Args:
            app: An ASGI 3 app.
            policy: What admits a request, which it is given as the only argument (the scope): a gate, a `pipeline` or
                `keyed` of gates. None: `load_shed(name="asgi")`, which learns what the server can do.
            deadline_header: The header with the time that the caller has left, in seconds as a decimal; in milliseconds
                if its name ends in "-ms"; "grpc-timeout" in gRPC's form. None: not read.
            default_deadline: Seconds > 0 for a request that does not say how long it has; None: no deadline.
            max_deadline: The most seconds that a request may have; None: what it says.
            enforce_deadline: Whether the app is interrupted when the time is up, and 504 answered. If not, its guarded
                calls and queues know of the deadline all the same, and nothing that cannot finish begins.
            trust: Whose headers count: networks of peers ("10.0.0.0/8"; of the address in the scope, which a server may
                have taken from X-Forwarded-For), a function of the scope, True or False.
            priority_header: The header with the request's priority ("critical", "standard", "sheddable", "background").
            tenant_header: The header with whose request it is; for `load_shed(tenant=tenant_of)`.
            exempt: Paths that are served whatever the policy says, "/static/*" with all below, added to /health,
                /healthz, /livez and /readyz; or a function of the scope, which decides alone. None: no path is.
            respond: A function of scope and refusal that returns status, headers and body of the answer to a request
                that is refused, or None for the usual one.
            server_timing: Whether the header Server-Timing tells where the time has gone when the response begins:
                waiting for the permit, and in the app. Everybody sees it who sees the response.

        Raises:
            TypeError: An option of a wrong type, or a policy that would run the app again or interrupt it.
            ValueError: An option out of range.
        """
        self.app: App = options.app
        self.policy = options.policy or load_shed(name="asgi")
        self._enforce_deadline = options.enforce_deadline
        self._server = Server.of(options, self.policy, _address_of)
        http = TimedHTTPContext if options.server_timing else HTTPContext
        self._contexts: dict[str, type[RequestContext]] = {"http": http, "websocket": SocketContext}
        self._headers = {name.encode("ascii"): what for name, what in self._server.headers.items()}
        self._begin = self.policy._begin
        self._looks = self._server.looks
        self._hints_always = options.default_deadline is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        # One function for what most requests need: each that is called was last called a request ago, and is cold.
        context, mounted = self._contexts.get(scope["type"]), scope.get("root_path")
        if context is None or (
            (mounted or self._looks or scope["path"] in self._server.paths)
            and self._server.exempt(scope, scope["path"], mounted or "")
        ):
            await self.app(scope, receive, send)
            return
        request = context(scope, receive, send)
        try:
            hinted = self._hints_always
            for name, _ in scope["headers"]:
                if name in self._headers:
                    hinted = True
            if hinted:
                await self._serve_as_hinted(scope, request)
                return
            begun = None if "trio" in modules else self._begin(scope)
            if isinstance(begun, Permit):
                request.permit = begun
            else:
                await admit(self.policy, request, scope, begun)
            if request.permit is not None:  # else the client has left
                await self.app(scope, request.receive, request.send)
                if request.permit is not None:
                    request.ended()
        except BaseException as error:
            request.failed(error)
            if request.started or not isinstance(error, REFUSALS):
                raise
            await self._answer(scope, request, error)

    async def _serve_as_hinted(self, scope: Scope, request: RequestContext) -> None:
        """Serve within the deadline and the priority that the request asks for, as far as it is trusted."""
        found: dict[str, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in self._headers:
                found.setdefault(self._headers[name], []).append(value)
        hints = self._server.hints(scope, found)
        if hints.tenant is not None:
            scope[TENANT] = hints.tenant  # not in a copy: what the app notes there, as its route, is read outside
        if hints.level is None:
            await self._serve_in_time(hints.seconds, scope, request)
        else:
            with priority(hints.level):
                await self._serve_in_time(hints.seconds, scope, request)

    async def _serve_in_time(self, seconds: float | None, scope: Scope, request: RequestContext) -> None:
        if seconds is None:
            await self._serve(None, scope, request)
        else:
            with deadline(seconds):  # which the queue asks: a request that waits is rejected in time, not interrupted
                await self._serve(seconds if self._enforce_deadline else None, scope, request)

    async def _serve(self, seconds: float | None, scope: Scope, request: RequestContext) -> None:
        await admit(self.policy, request, scope)
        if request.permit is None:  # the client has left
            return
        if seconds is None:
            await self._run(scope, request)
        else:
            async with deadline(seconds):  # the one outside is nearer, and is enforced from here on
                await self._run(scope, request)

    async def _run(self, scope: Scope, request: RequestContext) -> None:
        try:
            await self.app(scope, request.receive, request.send)
            request.ended()
        except BaseException as error:
            request.failed(error)  # in here, where a cancellation is known for the deadline's
            raise

    async def _answer(self, scope: Scope, request: RequestContext, error: Exception) -> None:
        """Answer in place of the app."""
        headers = dict(scope["headers"])

        def header(name: str) -> str | None:
            value = headers.get(name.encode("ascii"))
            return None if value is None else value.decode("latin-1")

        http1 = str(scope.get("http_version", "1.1")).startswith("1")
        status, more, body = self._server.answer(scope, error, header if http1 else None)
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in more]
        with suppress(OSError):  # the client did not wait for it
            await request.answer(status, encoded, body)


def _address_of(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
