"""
What the guides show of HTTP clients and servers: read by mypy, never run; see test_typed_guides.py.

Each client and framework has types of its own, and each must take what is made for it.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware as StarletteMiddleware
from starlette.types import ASGIApp, Scope

from resilio import circuit_breaker, keyed, load_shed, pipeline, rate_limit, standard
from resilio.integrations import asgi, wsgi
from resilio.integrations.httpx import AsyncTransport, Transport, guard_client, host

# ---- clients ---------------------------------------------------------------------------------------------------------

invoices = standard("invoices", on="http", idempotent=True)
per_host = keyed(lambda: circuit_breaker(failed_if=lambda response: response.status_code >= 500), key=host)

newer_async = httpx2.AsyncClient(transport=AsyncTransport(invoices, client=httpx2))
older_async = httpx.AsyncClient(transport=AsyncTransport(invoices, httpx.AsyncHTTPTransport(http2=True)))
newer = httpx2.Client(transport=Transport(invoices, client=httpx2, on_reject="respond"))
older = httpx.Client(mounts={"https://": Transport(invoices, client=httpx, send_deadline=True)})
guarded: httpx2.Client = guard_client(httpx2.Client(), per_host, idempotent=False)

# ---- servers ---------------------------------------------------------------------------------------------------------

app = FastAPI()
app.add_middleware(asgi.Middleware, policy=load_shed(name="shop"), exempt=["/healthz", "/static/*"])
shop: ASGIApp = asgi.Middleware(Starlette(middleware=[StarletteMiddleware(asgi.Middleware, policy=load_shed())]))


def respond(scope: Scope, rejection: Exception) -> tuple[int, list[tuple[str, str]], bytes]:
    return 503, [("content-type", "application/json")], b'{"error": "busy"}'


per_peer = keyed(lambda: rate_limit("2/min", burst=2), key=lambda scope: scope["client"][0])
limited: ASGIApp = asgi.Middleware(app, pipeline(per_peer, load_shed(tenant=asgi.tenant_of)), respond=respond)


async def typed_app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """As frameworks other than Starlette type theirs."""


strict = asgi.Middleware(typed_app, load_shed())

flask = Flask(__name__)
flask.wsgi_app = wsgi.Middleware(flask.wsgi_app, load_shed(name="shop"))  # type: ignore[method-assign]
