"""Commands of redis-py and valkey-py. Pipelines, and commands that wait by themselves, are left alone."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from resilio._adoption.patches import instead

if TYPE_CHECKING:
    from types import ModuleType

    from resilio._adoption.hosts import Hosts

__all__ = ["wire"]

_BLOCKING = frozenset(
    {
        *("BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN"),
        *("WAIT", "WAITAOF", "XREAD", "XREADGROUP"),
    }
)


def wire(module: ModuleType, hosts: Hosts) -> None:
    """
    Guard the commands of the clients of a module.

    Args:
        module: `redis.client`, `redis.asyncio.client`, or one of valkey's.
        hosts: The stacks.
    """
    name = module.__name__.partition(".")[0]
    kind: Any = getattr(module, name.capitalize())

    def guarded(old: Any) -> Any:
        if iscoroutinefunction(old):

            async def execute_async(self: Any, *args: Any, **options: Any) -> Any:
                stack = _stack(self, args, hosts, name)
                if stack is None:
                    return await old(self, *args, **options)
                return await stack.policy.acall(old, self, *args, **options)

            return execute_async

        def execute(self: Any, *args: Any, **options: Any) -> Any:
            stack = _stack(self, args, hosts, name)
            if stack is None:
                return old(self, *args, **options)
            return stack.policy.call(old, self, *args, **options)

        return execute

    instead(kind, "execute_command", guarded)


def _stack(client: Any, args: tuple[Any, ...], hosts: Hosts, name: str) -> Any:
    if str(args[0]).partition(" ")[0].upper() in _BLOCKING:
        return None
    given = client.connection_pool.connection_kwargs
    where = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
    return hosts.of(where, name, "redis")
