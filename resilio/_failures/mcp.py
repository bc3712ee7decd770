"""
Classification of results and errors of MCP's Python SDK, versions 1 and 2, by class and JSON-RPC code; imports neither.

An error that the request has caused (no such method, invalid parameters) is no evidence about the server. A rejection
by a guarded server has a time to come back in its structured content, and is a refusal.

Source: JSON-RPC 2.0, section 5.1; the SDK's `mcp_types/jsonrpc.py`.
"""

from __future__ import annotations

from typing import Any

from resilio._failures.answer_parts import told_in
from resilio._failures.causes import named
from resilio._failures.outcome import Outcome

__all__ = ["failed", "failing", "is_timeout", "lost", "momentary", "refused"]

_ERRORS = frozenset({"MCPError", "McpError"})
_LOST = frozenset({"BrokenResourceError", "ClosedResourceError", "EndOfStream"})
"""Errors of anyio's streams, which the session of a lost connection raises."""
_CLOSED = -32000
_TIMEOUTS = frozenset({-32001, 408})
"""The codes of a read timeout: of version 2, and of version 1."""
_INTERNAL = -32603
_SESSION_GONE = 32600
"""The code of version 1 for a session that the server has forgotten; version 2 has that of an invalid request."""
_OF_SERVERS = range(-32099, -31999)
"""Codes that JSON-RPC leaves to servers for errors of their own."""
_OF_THE_PROTOCOL = frozenset({-32020, -32021, -32022, -32042})
"""Those of them that MCP has given a meaning: the request lacks something."""


def failed(result: Any) -> bool:
    """Return True for the result of a tool that has failed."""
    return getattr(result, "is_error", None) is True or getattr(result, "isError", None) is True


def failing(error: Any) -> Outcome | None:
    """Return the verdict of an error on the server's health; None if it is none of MCP's."""
    code = _code_of(error)
    if code is None:
        return Outcome.FAILURE if lost(error) else None
    return Outcome.FAILURE if momentary(error) or _is_gone(error, code) else Outcome.IGNORED


def momentary(error: Any) -> bool | None:
    """Return True if another attempt may succeed; None for an error that is none of MCP's."""
    code = _code_of(error)
    if code is None:
        return True if lost(error) else None
    return code in _TIMEOUTS or code == _INTERNAL or (code in _OF_SERVERS and code not in _OF_THE_PROTOCOL)


def lost(error: Any) -> bool:
    """Return True if the connection is lost: no further call on it can succeed."""
    return named(error, _LOST) if _code_of(error) is None else _code_of(error) == _CLOSED


def is_timeout(error: Any) -> bool:
    """Return True if the read timeout of a call has passed."""
    return _code_of(error) in _TIMEOUTS


def refused(subject: Any) -> bool:
    """Return True for an error or a failed result by which a server has refused the call, with a time to come back."""
    if not failed(subject) and _code_of(subject) is None:
        return False
    return isinstance(told_in(subject).get("retry_after"), (int, float))


def _is_gone(error: Any, code: int) -> bool:
    return code == _SESSION_GONE or (code == -_SESSION_GONE and "Session terminated" in str(error))


def _code_of(error: Any) -> int | None:
    if not any(cls.__name__ in _ERRORS for cls in type(error).__mro__):
        return None
    code = getattr(getattr(error, "error", None), "code", None)
    return code if isinstance(code, int) else None
