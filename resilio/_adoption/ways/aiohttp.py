"""Sessions of aiohttp: a middleware, outermost, that sends each request through the stack of its host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import instead
from resilio.integrations.aiohttp import host, middleware

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts, Stack

__all__ = ["wire"]

_PORTS = {"https": ":443", "http": ":80"}


def wire(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the sessions that aiohttp will make.

    Args:
        module: `aiohttp`.
        hosts: The stacks.
    """
    guarded: dict[Stack, Any] = {}

    async def routed(request: Any, handler: Any) -> Any:
        stack = hosts.of(host(request).removesuffix(_PORTS.get(request.url.scheme, ":")), "aiohttp", "http")
        if stack is None:
            return await handler(request)
        if stack not in guarded:
            guarded[stack] = middleware(stack.policy)
        return await guarded[stack](request, handler)

    def with_middleware(old: Any) -> Any:
        def method(self: Any, *args: Any, middlewares: Any = (), **kwargs: Any) -> None:
            old(self, *args, middlewares=(routed, *middlewares), **kwargs)

        return method

    instead(module.ClientSession, "__init__", with_middleware)
