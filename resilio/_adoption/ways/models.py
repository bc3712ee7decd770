"""Clients of the SDKs of models, guarded as `resilio.integrations.llm` does, by the stack of the host they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import instead
from resilio._adoption.ways.httpx import LEFT_ALONE, leave
from resilio._events import log

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts

__all__ = ["wire_anthropic", "wire_openai"]


def wire_openai(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the clients that openai will make.

    Args:
        module: `openai`.
        hosts: The stacks.
    """
    from resilio.integrations.llm import openai

    _wire((module.OpenAI, module.AsyncOpenAI), openai, hosts, "openai")


def wire_anthropic(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the clients that anthropic will make.

    Args:
        module: `anthropic`.
        hosts: The stacks.
    """
    from resilio.integrations.llm import anthropic

    _wire((module.Anthropic, module.AsyncAnthropic), anthropic, hosts, "anthropic")


def _wire(classes: tuple[Any, ...], integration: Any, hosts: Hosts, name: str) -> None:
    def guarded(old: Any) -> Any:
        def method(self: Any, *args: Any, **kwargs: Any) -> None:
            alone = LEFT_ALONE.set(True)
            try:
                old(self, *args, **kwargs)
            finally:
                LEFT_ALONE.reset(alone)
            try:
                _guard(self, integration, hosts, name)
            except Exception as error:  # noqa: BLE001 - the caller's client works without it
                log.say(log.WARNING, "a client of %s is not guarded", name, error=error)

        return method

    for kind in classes:
        instead(kind, "__init__", guarded)


def _guard(client: Any, integration: Any, hosts: Hosts, name: str) -> None:
    if integration.guard_of(client) is not None:  # a copy of one that is guarded
        return
    stack = hosts.of(client.base_url.netloc.decode("ascii"), name, "model")
    if stack is not None:
        leave(client._client)
        integration.guard(client, stack.policy)
