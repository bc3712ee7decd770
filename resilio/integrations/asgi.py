"""
A pure ASGI middleware: admits each request by a policy, for as long as its response takes, or answers it at once.

Why: a server that accepts all requests answers none in time under overload. In front of the app, a load shedder, a
limit or a rate limit answers excess requests with 503 or 429 and Retry-After, before their bodies are read. When not:
around single handlers; use a decorator there. What it is not: a retry. A response that has begun cannot be taken back,
so the app is called once or not at all.

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
from resilio._policy.base import Policy
from resilio._policy.factory import takes
from resilio.integrations._servers.asgi_queue import admit
from resilio.integrations._servers.asgi_request import (
    HTTPContext,
    RequestContext,
    Scope,
    SocketContext,
    TimedHTTPContext,
)
from resilio.integrations._servers.middleware import REJECTIONS, TENANT, Server, ServerOptions, tenant_of
from resilio.integrations._shared.headers import ignored_headers

__all__ = ["Middleware", "ignored_headers", "tenant_of"]

App = Callable[[Any, Any, Any], Awaitable[None]]  # each framework has its own incompatible types for the three


@record
class ASGIOptions(ServerOptions):
    """The options of the ASGI middleware."""

    enforce_deadline: bool = option(flag, default=True)


class Middleware:
    """
    An ASGI app around another: each request is admitted by the policy or answered at once; see the module.

    `app = Middleware(app, load_shed())`; `app.add_middleware(Middleware, policy=load_shed())` in FastAPI and Starlette.
    A permit lasts until the last byte of the response, until the client leaves, or until the app ends. A status of 500
    or more and an exception are failures; a status of 400 to 499 and a client that leaves are ignored. Latency is the
    time to the first byte of the body.

    Attributes:
        app: The app inside.

        policy: The policy that admits requests.
    """

    @takes(ASGIOptions)
    def __init__(self, options: ASGIOptions) -> None:
        """
        Wrap `app` in the middleware.

        Args:
            app: An ASGI 3 app.
            policy: The policy that admits requests; its functions receive the scope as their only argument. A gate, or
                a `pipeline` or `keyed` of gates. None: `load_shed(name="asgi")`, which learns the server's capacity.
            deadline_header: The header with the caller's time left, in decimal seconds; in milliseconds if its name
                ends in "-ms"; "grpc-timeout" in gRPC's form. None: not read.
            default_deadline: Seconds > 0, used if the request carries no deadline; None: no deadline.
            max_deadline: Upper bound, in seconds, on a request's deadline; None: no bound.
            enforce_deadline: Whether the app is interrupted at the deadline, and 504 is the answer. If False, the
                deadline is still ambient for its guarded calls and queues, and calls that cannot meet it are not begun.
            trust: Peers whose headers are read: networks ("10.0.0.0/8", by the address in the scope, which a server may
                have taken from X-Forwarded-For), a function of the scope, True or False.
            priority_header: The header with the request's priority ("critical", "standard", "sheddable", "background").
            tenant_header: The header with the request's tenant, for `load_shed(tenant=tenant_of)`.
            exempt: Paths that are always served, in addition to /health, /healthz, /livez and /readyz; "/static/*"
                includes all paths below. Or a function of the scope, which decides alone. None: no path is exempt.
            respond: A function of the scope and the rejection that returns the status, headers and body of the answer
                to a rejected request, or None for the default answer.
            server_timing: Whether responses carry the header Server-Timing: the time spent until the response began,
                waiting for the permit and in the app. It is visible to every client.

        Raises:
            TypeError: An option of a wrong type, or a policy that would run the app again or interrupt it.
            ValueError: An option out of range.
        """
        self.app: App = options.app
        self.policy: Policy[Any] = options.policy or load_shed(name="asgi")
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
        # One function for the common case: each further function was last called a request ago, and is cold. With a
        # coroutine for each step a request took 2.7 us with httptools and 6.6 with h11, now 1.4 and 3.5.
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
            if request.permit is not None:  # None: the client has left
                await self.app(scope, request.receive, request.send)
                if request.permit is not None:
                    request.ended()
        except BaseException as error:
            request.failed(error)
            if request.started or not isinstance(error, REJECTIONS):
                raise
            await self._answer(scope, request, error)

    async def _serve_as_hinted(self, scope: Scope, request: RequestContext) -> None:
        """Serve within the deadline and the priority of the request's headers, if it is trusted."""
        found: dict[str, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in self._headers:
                found.setdefault(self._headers[name], []).append(value)
        hints = self._server.hints(scope, found)
        if hints.tenant is not None:
            scope[TENANT] = hints.tenant  # not in a copy: outer middlewares read the app's entries there
        if hints.level is None:
            await self._serve_in_time(hints.seconds, scope, request)
        else:
            with priority(hints.level):
                await self._serve_in_time(hints.seconds, scope, request)

    async def _serve_in_time(self, seconds: float | None, scope: Scope, request: RequestContext) -> None:
        if seconds is None:
            await self._serve(None, scope, request)
        else:
            with deadline(seconds):  # for the queue: a waiting request is rejected in time, not interrupted
                await self._serve(seconds if self._enforce_deadline else None, scope, request)

    async def _serve(self, seconds: float | None, scope: Scope, request: RequestContext) -> None:
        await admit(self.policy, request, scope)
        if request.permit is None:  # the client has left
            return
        if seconds is None:
            await self._run(scope, request)
        else:
            async with deadline(seconds):  # the outer one is nearer, and is enforced from here on
                await self._run(scope, request)

    async def _run(self, scope: Scope, request: RequestContext) -> None:
        try:
            await self.app(scope, request.receive, request.send)
            request.ended()
        except BaseException as error:
            request.failed(error)  # inside the block, where the deadline's cancellation is recognised
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
        with suppress(OSError):  # the client has left
            await request.answer(status, encoded, body)


def _address_of(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
