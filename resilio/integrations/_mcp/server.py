"""A server of MCP under guard: the policy admits each call of a tool, or a result with the reason answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from typing import Any

from resilio._context.priority import priority
from resilio._options.fields import option, record
from resilio._options.validators import reject, seconds
from resilio._policies.deadline import deadline
from resilio._policies.load_shed import load_shed
from resilio._policy.base import Policy
from resilio._policy.types import Converted, SecondsOrNone
from resilio.errors import CallTimeoutError, DeadlineExceededError, RejectedError
from resilio.integrations._mcp.lib import IS_FIRST, JUDGES, ToolCall, types
from resilio.integrations._shared import headers
from resilio.integrations._shared.guarded_call import GuardedCall
from resilio.integrations._shared.server_options import HintOptions, policy_or_none
from resilio.integrations._shared.trust import trust_of

__all__ = ["GuardOptions", "ServerGuard"]

_CALL = "tools/call"
_INSIDE = "request_handlers"
_Serve = Callable[[Any], Awaitable[Any]]


def _server(name: str, value: Any) -> Any:
    """Return the low-level server inside, which has the public place for all tools."""
    inner = getattr(value, "_mcp_server", value) if IS_FIRST else value
    if not hasattr(inner, _INSIDE if IS_FIRST else "middleware"):
        reject(name, value, "a server of the SDK: FastMCP or MCPServer, or the low-level Server", TypeError)
    return inner


def _tools(name: str, value: Any) -> Any:
    if isinstance(value, str) or not (value is None or isinstance(value, Collection)):
        reject(name, value, "names of tools, like ('search',), or None for all", TypeError)
    return None if value is None else frozenset(value)


Tools = Converted[Collection[str] | None, frozenset[str] | None]


@record
class GuardOptions(HintOptions):
    """The options of a guarded server, checked; :func:`resilio.integrations.mcp.guard_server` documents each."""

    server: Any = option(_server, kw_only=False)
    policy: Policy[Any] | None = option(policy_or_none, default=None, kw_only=False)
    tools: Tools = option(_tools, default=None)
    default_deadline: SecondsOrNone = option(seconds, default=None, none_ok=True)


class ServerGuard:
    """Admits calls of tools by a policy."""

    def __init__(self, options: GuardOptions) -> None:
        """Serve by these options."""
        self.policy: Policy[Any] = options.policy or load_shed(name="mcp")
        self._options = options
        self._trusts = trust_of("trust", options.trust, _address_of)
        self._send = GuardedCall(self.policy, None, judges=JUDGES).send

    def install(self) -> None:
        """Put the policy before the tools of the server."""
        server: Any = self._options.server
        if not IS_FIRST:
            server.middleware.append(self._middleware)
            return
        handler = server.request_handlers.get(types.CallToolRequest)
        if handler is None:
            reject("server", server, "a server with a handler for calls of tools: guard it after that is registered")

        async def handle(request: Any) -> Any:
            """Handle a request."""
            params = request.params
            meta = {} if params.meta is None else dict(params.meta.model_extra or {})
            raw = {"name": params.name, "arguments": params.arguments}
            answer = await self._serve(server.request_context, raw, meta, lambda _: handler(request))
            return types.ServerResult(getattr(answer, "root", answer))

        server.request_handlers[types.CallToolRequest] = handle

    async def _middleware(self, context: Any, call_next: _Serve) -> Any:
        if context.method != _CALL or context.request_id is None:
            return await call_next(context)
        return await self._serve(context, context.params or {}, dict(context.meta or {}), call_next)

    async def _serve(self, context: Any, params: Any, meta: dict[str, Any], serve: _Serve) -> Any:
        name = params.get("name")
        if not isinstance(name, str) or (self._options.tools is not None and name not in self._options.tools):
            return await serve(context)
        call = ToolCall(name, params.get("arguments") or {}, meta, send=serve)
        left, level = self._hints(context, meta)
        try:
            with nullcontext() if level is None else priority(level):
                if left is None:
                    return await self._send(_run, call, context)
                async with deadline(left):
                    return await self._send(_run, call, context)
        except (RejectedError, CallTimeoutError, DeadlineExceededError) as error:
            return _answer(error)

    def _hints(self, context: Any, meta: dict[str, Any]) -> tuple[float | None, Any]:
        """Return the seconds left and the priority by the request's `_meta`, if its sender is trusted."""
        options = self._options
        names = {"deadline": headers.DEADLINE_HEADER, "priority": options.priority_header}
        told = {what: meta[name] for what, name in names.items() if name in meta}
        if told and not self._trusts(context):
            for what in told:
                headers.note_ignored(what, "untrusted")
            told = {}
        asked = headers.read_deadline(told["deadline"]) if "deadline" in told else None
        left: Any = options.default_deadline if asked is None else asked
        level = headers.read_priority(told["priority"]) if "priority" in told else None
        most: Any = options.max_deadline
        return left if left is None or most is None else min(left, most), level


async def _run(call: ToolCall, context: Any) -> Any:
    result = await call.send(context)
    return getattr(result, "root", result)


def _answer(error: Exception) -> Any:
    """Return the result of a call that was rejected, for the model in words and for its program as data."""
    after = headers.retry_after_header(error)
    reason = getattr(error, "reason", "timeout")
    if after is None:
        text = f"The tool did not answer in time ({reason}). It may have been executed in part."
    else:
        text = f"The tool cannot be called now ({reason}). Nothing was done. Call it again in {after} seconds."
    told = {"reason": reason, "retry_after": None if after is None else int(after)}
    content = [{"type": "text", "text": text}]
    return types.CallToolResult.model_validate({"content": content, "structuredContent": told, "isError": True})


def _address_of(context: Any) -> str | None:
    client = getattr(context.request, "client", None)
    return None if client is None else str(client.host)
