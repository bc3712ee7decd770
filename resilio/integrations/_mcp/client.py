"""
A client of MCP under guard: each call of a tool is one call of the policy.

The client gets a subclass of its own class, so all code that holds it calls tools through the policy. Hints of tools
come from `list_tools`, by name. If the client has not listed its tools, the first attempt of a call does so, where a
retry or a hedge may need the hints: the SDK itself lists them to check results, and then finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import anyio

from resilio import presets
from resilio._context.deadline import remaining
from resilio._failures import mcp as mcp_errors
from resilio._policies.pool.chosen import pool_of
from resilio._policy.base import Policy
from resilio.errors import DeadlineExceededError, ResilienceError
from resilio.integrations._mcp.lib import IS_FIRST, JUDGES, ToolCall, types
from resilio.integrations._shared import replay
from resilio.integrations._shared.guarded_call import GuardedCall, reject_clocks_alone
from resilio.integrations._shared.upstream import Upstream

__all__ = ["ClientGuard", "guard_of", "install", "plain"]

_MOST_PAGES = 100
_unsent: Any = presets.mcp.unsent
_TELLING = 0.25
"""Most seconds in which the server of a client of version 1 is told that a call is over."""


@contextmanager
def plain() -> Iterator[None]:
    """
    Let an error of resilio leave the block as it is, where a task group inside has wrapped it.

    For transports that are entered by hand: `with plain(): async with stdio_client(...)`. The block of a guarded client
    does so by itself.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, ResilienceError):
            raise error from error.__cause__
        raise


class ClientGuard:
    """The policy of a client, and the hints of its tools."""

    def __init__(self, policy: Policy[Any], idempotent: replay.Rule, headers: Upstream | None) -> None:
        """
        Prepare the guard of a client.

        Args:
            policy: The policy.

            idempotent: Which calls may be sent twice; None: those of tools with a hint.

            headers: Parts of the request's `_meta` to send; None: none.

        Raises:
            TypeError: No policy, or one that this client cannot have.
        """
        self.policy = policy
        self._idempotent = idempotent
        self._headers = headers
        self._hints: dict[str, bool] = {}
        self._listed = False
        self._call = self._unhedged = GuardedCall(policy, None, judges=JUDGES)
        if self._call.hedged:
            self._unhedged = GuardedCall(policy, None, hedged=False, judges=JUDGES)
        reject_clocks_alone(policy)
        if pool_of(policy) is not None:
            raise TypeError(f"policy must have no pool, not {policy!r}: a session belongs to one server")

    async def call(self, client: Any, call: ToolCall) -> Any:
        """Return the result of a call through the policy."""
        way = self._call if self._is_safe(call) else self._unhedged
        return await way.send(lambda call: self._attempt(client, call), call)

    def note(self, listed: Any) -> None:
        """Remember the hints of a listing."""
        for tool in listed.tools:
            hints = tool.annotations
            names = ("idempotentHint", "readOnlyHint") if IS_FIRST else ("idempotent_hint", "read_only_hint")
            self._hints[tool.name] = any(getattr(hints, name, None) is True for name in names)

    def _is_safe(self, call: ToolCall) -> bool:
        if self._idempotent is None:
            return self._hints.get(call.name, False)
        return bool(self._idempotent(call)) if callable(self._idempotent) else self._idempotent

    async def _attempt(self, client: Any, call: ToolCall) -> Any:
        replay.forbid(call)  # before it is sent, because a timeout may end it
        if self._call.replays and self._idempotent is None and not self._listed and call.name not in self._hints:
            await self._list(client)
        safe = self._is_safe(call)
        if safe:
            replay.allow(call)
        if self._headers is not None:
            self._headers.write(call.meta)
        try:
            result = await call.send(client)
        except Exception as error:
            if not safe:
                (replay.allow if _unsent(error) else replay.forbid)(call)
            if mcp_errors.is_timeout(error) and remaining() == 0.0:
                raise DeadlineExceededError(remaining=0.0) from error
            raise
        if not safe and mcp_errors.refused(result):
            replay.allow(call)
        return result

    async def _list(self, client: Any) -> None:
        """List the tools for their hints; a server that answers with an error has none."""
        cursor: str | None = None
        try:
            for _ in range(_MOST_PAGES):
                listed = await (client.list_tools(cursor=cursor) if cursor else client.list_tools())
                cursor = listed.nextCursor if IS_FIRST else listed.next_cursor
                if not cursor:
                    break
        except Exception as error:
            if mcp_errors.momentary(error) is not False:
                raise
        self._listed = True


class _Guarded:
    """
    The methods of a guarded client, for a subclass of its own class that has no other base.

    A client cannot get a class with a second base, as the layout of its objects would differ.
    """

    _resilio_guard: ClientGuard

    async def call_tool(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        read_timeout_seconds: Any = None,
        *args: Any,
        meta: Any = None,
        **options: Any,
    ) -> Any:
        """Call a tool through the policy; the deadline is its read timeout."""
        theirs: Any = super(type(self), self)

        async def send(client: Any) -> Any:
            """Send it once."""
            limit = _limit(client, read_timeout_seconds)
            asked = {**options, "meta": call.meta} if call.meta else options
            number = getattr(client, "_request_id", None) if IS_FIRST else None
            try:
                return await theirs.call_tool(name, arguments, limit, *args, **asked)
            except BaseException as error:
                if number is not None and (not isinstance(error, Exception) or mcp_errors.is_timeout(error)):
                    await _cancel(client, number)
                raise

        call = ToolCall(name, arguments or {}, dict(meta or {}), send=send)
        return await self._resilio_guard.call(self, call)

    async def list_tools(self, *args: Any, **options: Any) -> Any:
        """List tools, and remember their hints."""
        theirs: Any = super(type(self), self)
        listed = await theirs.list_tools(*args, **options)
        self._resilio_guard.note(listed)
        return listed

    async def __aexit__(self, *error: object) -> Any:
        """Leave the block; a rejection in it leaves it as it is."""
        theirs: Any = super(type(self), self)
        with plain():
            return await theirs.__aexit__(*error)


def _limit(client: Any, given: Any) -> Any:
    """Return the read timeout of a call: its own, else the client's, and no more than the deadline leaves."""
    if given is None:
        given = getattr(client, "read_timeout_seconds", getattr(client, "_session_read_timeout_seconds", None))
    left = remaining()
    if left is None:
        return given
    least = left if given is None else min(left, given.total_seconds() if IS_FIRST else given)
    return timedelta(seconds=least) if IS_FIRST else least


async def _cancel(session: Any, number: int) -> None:
    """Cancel a request of a session of version 1, whose SDK does not."""
    params = types.CancelledNotificationParams(requestId=number, reason="timeout or cancellation")
    notification = types.CancelledNotification(method="notifications/cancelled", params=params)
    with anyio.move_on_after(_TELLING, shield=True):
        try:
            await session.send_notification(types.ClientNotification(notification))
        except Exception:  # noqa: BLE001 - the connection is gone, and with it the call
            return


def install(client: Any, guard: ClientGuard) -> None:
    """Put a client under guard."""
    cls: Any = type(client)
    methods = {name: vars(_Guarded)[name] for name in ("call_tool", "list_tools", "__aexit__")}
    client._resilio_guard = guard
    client.__class__ = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__, **methods})


def guard_of(client: Any) -> ClientGuard | None:
    """Return the guard of a client, None if it has none."""
    return getattr(client, "_resilio_guard", None)
