"""
A WSGI middleware: admits each request by a policy, for as long as its response takes, or answers it at once.

Why: a server with a fixed number of threads lets all further requests wait until their clients give up. In front of the
app, a load shedder, a limit or a rate limit answers them with 503 or 429 and Retry-After. When not: around single
handlers; use a decorator there. What it is not: a retry, or an interruption, because a thread runs to its end.

A request that has to wait for its permit waits in its thread. It serves Flask, Django or any WSGI app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import Any

from resilio._context import variables
from resilio._context.priority import CLASSES
from resilio._native import clock
from resilio._native.core import AmbientDeadline, AmbientPriority, ambient_deadline
from resilio._policies.load_shed import load_shed
from resilio._policy.base import Policy
from resilio._policy.factory import takes
from resilio.integrations._servers.busy_threads import watched
from resilio.integrations._servers.middleware import TENANT, Hints, Server, ServerOptions, tenant_of
from resilio.integrations._servers.wsgi_request import RequestContext, TimedRequestContext, around
from resilio.integrations._shared.headers import ignored_headers

__all__ = ["Middleware", "ignored_headers", "tenant_of"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Any, Any], Iterable[bytes]]  # each framework has its own incompatible types for the two


class Middleware:
    """
    A WSGI app around another: each request is admitted by the policy or answered at once; see the module.

    `app.wsgi_app = Middleware(app.wsgi_app, load_shed())` in Flask, `application = Middleware(application)` in Django.
    A permit lasts until the server closes the response's body, or the app raises. A status of 500 or more and an
    exception are failures; a status of 400 to 499 and a client that leaves are ignored. Latency is the time to the
    first part of the body.

    Attributes:
        app: The app inside.

        policy: The policy that admits requests.
    """

    @takes(ServerOptions)
    def __init__(self, options: ServerOptions) -> None:
        """
        Wrap `app` in the middleware.

        Args:
            app: A WSGI app.
            policy: The policy that admits requests; its functions receive the environ as their only argument. A gate,
                or a `pipeline` or `keyed` of gates. None: `load_shed(name="wsgi")`, which learns the server's capacity.
            deadline_header: The header with the caller's time left, in decimal seconds; in milliseconds if its name
                ends in "-ms"; "grpc-timeout" in gRPC's form. None: not read. The deadline is ambient for guarded calls
                and queues, and calls that cannot meet it are not begun; the app itself is not interrupted.
            default_deadline: Seconds > 0, used if the request carries no deadline; None: no deadline.
            max_deadline: Upper bound, in seconds, on a request's deadline; None: no bound.
            trust: Peers whose headers are read: networks ("10.0.0.0/8", by the environ's REMOTE_ADDR, which a server
                may have taken from X-Forwarded-For), a function of the environ, True or False.
            priority_header: The header with the request's priority ("critical", "standard", "sheddable", "background").
            tenant_header: The header with the request's tenant, for `load_shed(tenant=tenant_of)`.
            exempt: Paths that are always served, in addition to /health, /healthz, /livez and /readyz; "/static/*"
                includes all paths below. Or a function of the environ, which decides alone. None: no path is exempt.
            respond: A function of the environ and the rejection that returns the status, headers and body of the answer
                to a rejected request, or None for the default answer.
            server_timing: Whether responses carry the header Server-Timing: the time spent until the response began,
                waiting for the permit and in the app. It is visible to every client.

        Raises:
            TypeError: An option of a wrong type, or a policy that would run the app again or interrupt it.
            ValueError: An option out of range.
        """
        self.app: App = options.app
        self.policy: Policy[Any] = options.policy or load_shed(name="wsgi")
        self._server = Server.of(options, self.policy, _address_of)
        self._threads = watched(self.policy)
        self._variables = {_variable(name): what for name, what in self._server.headers.items()}
        self._request = TimedRequestContext if options.server_timing else RequestContext

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        server, mounted = self._server, environ.get("SCRIPT_NAME", "")
        if server.exempt(environ, mounted + environ.get("PATH_INFO", ""), mounted):
            return self.app(environ, start_response)
        request = self._request(server, environ, start_response)
        context = self._context_of(environ)
        threads = self._threads
        if threads is not None and threads.note():
            self._threads = None
        try:
            if context is None:
                request.permit = self.policy.acquire(environ)
                result = self.app(environ, request.start_response)
            else:
                request.permit = context.run(self.policy.acquire, environ)
                result = context.run(self.app, environ, request.start_response)
            return around(result, request, context)
        except BaseException as error:  # noqa: BLE001 - raised again, or answered
            return [request.answer(error)]

    def _context_of(self, environ: Environ) -> Context | None:
        """
        Return the context of a request with a deadline, a priority or a tenant; None for all others.

        The server reads the body after the app's call has returned, so a block around that call is not enough.
        """
        found = {}
        for variable, what in self._variables.items():
            if variable in environ:
                found[what] = environ[variable]
        if not found and self._server.options.default_deadline is None:
            return None
        hints = self._server.hints(environ, found)
        if hints.tenant is not None:
            environ[TENANT] = hints.tenant
        context = copy_context()
        context.run(_set, hints)
        return context


def _variable(header: str) -> str:
    """Return the environ's key of a header, by its name in lower case."""
    return "HTTP_" + header.upper().replace("-", "_")


def _address_of(environ: Environ) -> str | None:
    address: str | None = environ.get("REMOTE_ADDR")
    return address or None


def _set(hints: Hints) -> None:
    if hints.level is not None:
        variables.priority.set(AmbientPriority(CLASSES.index(hints.level), None, variables.priority.get()))
    if hints.seconds is not None:
        allowed_ns = round(hints.seconds * 1e9)
        until_ns, outer = clock.now_ns() + allowed_ns, ambient_deadline()
        if outer is None or outer.until_ns > until_ns:
            variables.deadline.set(AmbientDeadline(until_ns, allowed_ns, outer))
