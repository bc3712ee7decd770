"""Channels of grpc.aio: interceptors of the stack of their target. Channels for threads are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import instead
from resilio.integrations.grpc import interceptors

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts

__all__ = ["wire"]


def wire(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the channels that grpc.aio will open.

    Args:
        module: `grpc.aio`.
        hosts: The stacks.
    """

    def guarded(old: Any) -> Any:
        def opened(target: str, *args: Any, interceptors: Any = None, **kwargs: Any) -> Any:
            stack = hosts.of(target, "grpc", "http")
            ours = [] if stack is None else guards(stack.policy)
            return old(target, *args, interceptors=[*ours, *(interceptors or ())] or None, **kwargs)

        return opened

    guards = interceptors
    instead(module, "insecure_channel", guarded)
    instead(module, "secure_channel", guarded)
