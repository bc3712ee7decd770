"""MCP's Python SDK, found when a module that needs it is imported first; a call of a tool as policies see it."""

from __future__ import annotations

import importlib
from typing import Any

import attrs

from resilio import presets
from resilio._support.extras import missing
from resilio.integrations._shared.judges import Judges, judges_of

__all__ = ["IS_FIRST", "JUDGES", "ToolCall", "mcp", "types"]

try:
    mcp: Any = importlib.import_module("mcp")
except ImportError as _error:
    raise missing("mcp", "mcp", _error) from _error

IS_FIRST = not hasattr(mcp, "MCPError")
"""Whether it is version 1, which tells the server of no cancellation and has no middleware."""
types: Any = importlib.import_module("mcp.types" if IS_FIRST else "mcp_types")

JUDGES: Judges = judges_of(presets.mcp.failing_result, presets.mcp)
"""Judges of results and errors for policies without a rule of their own: a result that is an error fails."""


@attrs.define(eq=False)
class ToolCall:
    """
    One call of a tool, the only argument of cost functions, keys and weights of a policy.

    Attributes:
        name: Name of the tool.

        arguments: Its arguments; empty if there are none.

        meta: The request's `_meta`; empty if there is none.
    """

    name: str
    arguments: dict[str, Any]
    meta: dict[str, Any]
    send: Any = attrs.field(repr=False, kw_only=True)
    """Function that sends or serves it; not for policies."""
    _resilio_replay: bool | None = attrs.field(default=None, repr=False, init=False)
