"""Clients under guard, each asked in one way: `ask(client, path)` of a base URL."""

from __future__ import annotations

import importlib
import importlib.util
import io
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs

import resilio.integrations

__all__ = ["CLIENTS", "ELSEWHERE", "Client", "integrations"]

Ask = Callable[[str], Awaitable[int]]


@attrs.frozen
class Client:
    """
    A client and the library that it needs.

    Attributes:
        opened: Yields a function of a path that returns a status.

        answered: Makes a response with the status 200 by the library; None: its connections alone make responses.
    """

    library: str
    opened: Callable[[str, Any, str], Any]
    in_threads: bool = False
    answered: Callable[[Any], Any] | None = None

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.library) is not None

    def open(self, policy: Any, url: str) -> Any:
        """Open a client under guard."""
        return self.opened(self.library, policy, url)

    def target(self) -> Any:
        """Return the target of a fallback: a 200 that no server has given."""
        assert self.answered is not None
        response = self.answered(importlib.import_module(self.library))

        async def later(*request: Any) -> Any:
            return response

        return (lambda *request: response) if self.in_threads else later


@asynccontextmanager
async def _httpx(library: str, policy: Any, url: str) -> AsyncIterator[Ask]:
    from resilio.integrations.httpx import AsyncTransport

    module = importlib.import_module(library)
    async with module.AsyncClient(transport=AsyncTransport(policy, client=module), base_url=url) as client:

        async def ask(path: str) -> int:
            response: Any = await client.get(path)
            return int(response.status_code)

        yield ask


@asynccontextmanager
async def _httpx_threads(library: str, policy: Any, url: str) -> AsyncIterator[Ask]:
    from resilio.integrations.httpx import Transport

    module = importlib.import_module(library)
    with module.Client(transport=Transport(policy, client=module), base_url=url) as client:

        async def ask(path: str) -> int:
            return int(client.get(path).status_code)

        yield ask


@asynccontextmanager
async def _aiohttp(library: str, policy: Any, url: str) -> AsyncIterator[Ask]:
    from resilio.integrations.aiohttp import middleware

    module = importlib.import_module(library)
    async with module.ClientSession(middlewares=(middleware(policy),)) as session:

        async def ask(path: str) -> int:
            async with session.post(url + path) as response:  # a GET whose connection is lost it sends again by itself
                await response.read()
                return int(response.status)

        yield ask


@asynccontextmanager
async def _requests(library: str, policy: Any, url: str) -> AsyncIterator[Ask]:
    from resilio.integrations.requests import Adapter

    with importlib.import_module(library).Session() as session:
        session.mount("http://", Adapter(policy))

        async def ask(path: str) -> int:
            return int(session.get(url + path).status_code)

        yield ask


def _of_httpx(library: Any) -> Any:
    return library.Response(200, text="{}")


def _of_requests(library: Any) -> Any:
    response = library.Response()
    response.status_code = 200
    response.raw = importlib.import_module("urllib3").HTTPResponse(io.BytesIO(b"{}"), preload_content=False)
    return response


CLIENTS = {
    "httpx": Client("httpx", _httpx, answered=_of_httpx),
    "httpx in threads": Client("httpx", _httpx_threads, in_threads=True, answered=_of_httpx),
    "httpx2": Client("httpx2", _httpx, answered=_of_httpx),
    "httpx2 in threads": Client("httpx2", _httpx_threads, in_threads=True, answered=_of_httpx),
    "aiohttp": Client("aiohttp", _aiohttp),
    "requests": Client("requests", _requests, in_threads=True, answered=_of_requests),
}
"""Clients of HTTP, by name."""
ELSEWHERE = {
    "asgi": "test_asgi.py",
    "asyncpg": "test_asyncpg.py",
    "grpc": "test_grpc.py",
    "llm": "llm",
    "mcp": "test_mcp.py",
    "redis": "test_redis.py",
    "sqlalchemy": "test_sqlalchemy.py",
    "wsgi": "test_wsgi.py",
}
"""Integrations that need a server of their own, or are one, and the tests in `tests/integrations` that cross them."""


def integrations() -> set[str]:
    """Return the names of the integrations."""
    return {module.name for module in pkgutil.iter_modules(resilio.integrations.__path__) if module.name[0] != "_"}
