"""
Tools over MCP under guard, at both ends: `guard(client, policy)` and `guard_server(server, policy)`.

Why: a tool that fails answers with a result, which a decorator counts as a success; a call may run twice only if its
tool has a hint; a rejection must reach the model as a result that it can read. When not: for resources and prompts;
decorate the function that asks for them. What it is not: a policy for several servers, as a session belongs to one.

It serves the SDK in versions 1 and 2, over any transport, on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from resilio._options.validators import reject
from resilio._policy.base import Policy
from resilio._policy.factory import makes
from resilio.integrations._mcp.client import ClientGuard, guard_of, install, plain
from resilio.integrations._mcp.lib import ToolCall, mcp
from resilio.integrations._mcp.server import GuardOptions, ServerGuard
from resilio.integrations._shared import replay
from resilio.integrations._shared.upstream import upstream

if TYPE_CHECKING:
    from resilio.integrations._shared.replay import Rule

__all__ = ["ToolCall", "guard", "guard_server", "plain", "tool_of"]

C = TypeVar("C")


def tool_of(call: ToolCall) -> str:
    """
    Return the name of a call's tool: `keyed(circuit_breaker, key=tool_of)` has a breaker for each.

    Args:
        call: The call.
    """
    return call.name


def guard(
    client: C,
    policy: Policy[Any],
    *,
    idempotent: Callable[[ToolCall], object] | bool | None = None,
    send_deadline: bool | str = False,
    send_attempt: bool | str = False,
) -> C:
    """
    Guard the tools of a client by a policy, in place, and return the client.

    A result that is an error is a failure; a rejection of a guarded server is a refusal. The deadline is the read
    timeout of the call, and the server cancels an async tool when that, or the caller's patience, is over. A rejection
    leaves the client's block as it is, in no ExceptionGroup.

    Args:
        client: A `Client` (version 2) or a `ClientSession` of the SDK, also one that is not entered yet.
        policy: The policy; its keys and cost functions receive a :class:`ToolCall`. It has no pool.
        idempotent: The calls that retries and hedges may repeat after they have reached the server: those of tools with
            `idempotentHint` or `readOnlyHint` (None), all (True), none (False), or those for which a function returns
            True. A hint is the server's claim.
        send_deadline: Send the time left in the request's `_meta`: True for `x-request-timeout`, or its key.
        send_attempt: Send the number of the attempt there: True for `x-envoy-attempt-count`, or its key.

    Raises:
        TypeError: Another client, no policy, or one with a pool.
        ValueError: The client is guarded already.
    """
    kinds = tuple(getattr(mcp, name) for name in ("Client", "ClientSession") if hasattr(mcp, name))
    if not isinstance(client, kinds):
        reject("client", client, "a Client or a ClientSession of mcp", TypeError)
    if guard_of(client) is not None:
        reject("client", client, "a client that is not guarded yet")
    rule: Rule = replay.checked(idempotent)
    install(client, ClientGuard(policy, rule, upstream(send_deadline, send_attempt)))
    return client


@makes(GuardOptions)
def guard_server(options: GuardOptions, _: str | None) -> None:
    """
    Admit the calls of a server's tools by a policy, or answer them at once by a result with the reason.

    The result is an error whose text a model can read. Its structured content has `reason`, and `retry_after` in
    seconds, None after a timeout. Schemas of tools stay as they are. Permits last until the tool ends.

    Args:
        server: `MCPServer` or `Server` (version 2), `FastMCP` or `Server` with its handler of calls (version 1).
        policy: The policy that admits calls; its functions receive a :class:`ToolCall`. A gate, or a `pipeline` or
            `keyed` of gates. None: `load_shed(name="mcp")`, which learns the server's capacity.
        tools: Names of the tools that it guards; None: all. Call the function again for other tools.
        default_deadline: Seconds > 0, used if the request carries no deadline; None: no deadline.
        max_deadline: Upper bound, in seconds, on a request's deadline; None: no bound.
        trust: Peers whose `_meta` is read: networks ("10.0.0.0/8"), a function of the request's context, True or False.
            A peer on stdio or in memory has no address.
        priority_header: The key in `_meta` with the priority ("critical", "standard", "sheddable", "background").

    Raises:
        TypeError: Another server, or a policy that would run a tool again or interrupt it.
        ValueError: An option out of range, or a low-level server of version 1 without its handler of calls.
    """
    ServerGuard(options).install()
