"""Clients of httpx and httpx2: a transport that sends each request through the stack of its host."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import after
from resilio.integrations.httpx import AsyncTransport, Transport, host

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts, Stack

__all__ = ["LEFT_ALONE", "leave", "wire"]

LEFT_ALONE: ContextVar[bool] = ContextVar("resilio.left_alone", default=False)
"""True while an SDK that is guarded by itself makes its client of httpx."""


def wire(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the clients that a module will make. A client with a transport of the user's own is left alone.

    Args:
        module: `httpx` or `httpx2`.
        hosts: The stacks.
    """
    lib: Any = module
    sync, asynchronous = _routed(lib, hosts)
    after(lib.Client, "__init__", lambda client: _put_under(client, lib.HTTPTransport, sync))
    after(lib.AsyncClient, "__init__", lambda client: _put_under(client, lib.AsyncHTTPTransport, asynchronous))


def _put_under(client: Any, ordinary: type[Any], routed: type[Any]) -> None:
    if LEFT_ALONE.get():
        return
    if type(client._transport) is ordinary:
        client._transport = routed(client._transport)
    mounts = client._mounts.items()
    client._mounts = {url: routed(one) if type(one) is ordinary else one for url, one in mounts}


def leave(client: Any) -> None:
    """
    Leave a client alone again: an SDK that is guarded by itself was given it.

    Args:
        client: A client of httpx or httpx2.
    """
    client._transport = _inside(client._transport)
    client._mounts = {url: _inside(one) for url, one in client._mounts.items()}


def _inside(transport: Any) -> Any:
    routes = getattr(transport, "_routes", None)
    return routes.inner if isinstance(routes, _Routes) else transport


class _Routes:
    """The guarded transports of one client, by stack."""

    def __init__(self, inner: Any, hosts: Hosts, client: str, make: Any) -> None:
        self.inner = inner
        self._hosts, self._client, self._make = hosts, client, make
        self._guarded: dict[Stack, Any] = {}

    def of(self, request: Any) -> Any:
        """Return the transport for a request."""
        stack = self._hosts.of(host(request), self._client, "http")
        if stack is None:
            return self.inner
        if stack not in self._guarded:
            self._guarded[stack] = self._make(stack.policy, self.inner)
        return self._guarded[stack]


def _routed(lib: Any, hosts: Hosts) -> tuple[type[Any], type[Any]]:
    class Routed(lib.BaseTransport):  # type: ignore[misc]
        """The transport of a client for threads."""

        def __init__(self, inner: Any) -> None:
            self._routes = _Routes(inner, hosts, lib.__name__, Transport)

        def handle_request(self, request: Any) -> Any:
            """Send a request through the stack of its host."""
            return self._routes.of(request).handle_request(request)

        def close(self) -> None:
            """Close the transport inside."""
            self._routes.inner.close()

    class AsyncRouted(lib.AsyncBaseTransport):  # type: ignore[misc]
        """The transport of an async client."""

        def __init__(self, inner: Any) -> None:
            self._routes = _Routes(inner, hosts, lib.__name__, AsyncTransport)

        async def handle_async_request(self, request: Any) -> Any:
            """Send a request through the stack of its host."""
            return await self._routes.of(request).handle_async_request(request)

        async def aclose(self) -> None:
            """Close the transport inside."""
            await self._routes.inner.aclose()

    return Routed, AsyncRouted
