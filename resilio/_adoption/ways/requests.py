"""Sessions of requests: an adapter that sends each request through the stack of its host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import after
from resilio.integrations.requests import Adapter, host

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts, Stack

__all__ = ["wire"]


def wire(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the sessions that requests will make; an adapter that the user mounts takes the place of this one.

    Args:
        module: `requests`.
        hosts: The stacks.
    """
    lib: Any = module

    class Routed(lib.adapters.HTTPAdapter):  # type: ignore[misc]
        """An adapter with one of its kind for each stack; a copy of it begins without."""

        def __init__(self) -> None:
            super().__init__()
            self._guarded: dict[Stack, Any] = {}

        def __setstate__(self, state: dict[str, Any]) -> None:
            self._guarded = {}
            super().__setstate__(state)

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            """Send a request through the stack of its host."""
            stack = hosts.of(host(request), "requests", "http")
            if stack is None:
                return super().send(request, *args, **kwargs)
            if stack not in self._guarded:
                self._guarded[stack] = Adapter(stack.policy)
            return self._guarded[stack].send(request, *args, **kwargs)

        def close(self) -> None:
            """Close the connections of all adapters."""
            super().close()
            for adapter in self._guarded.values():
                adapter.close()

    def mount(session: Any) -> None:
        for scheme in ("https://", "http://"):
            session.mount(scheme, Routed())

    after(lib.Session, "__init__", mount)
